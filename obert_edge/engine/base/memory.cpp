#include "base/memory.h"

#include <sys/mman.h>

namespace oe {

Memory::~Memory() {
  if (data_) munmap(data_, bytes_);
}

bool Memory::reserve(size_t bytes, bool huge) {
  constexpr size_t kPage = 4096;
  if (bytes <= bytes_) return true;
  if (bytes > SIZE_MAX - kPage) return false;
  bytes = (bytes + kPage - 1) / kPage * kPage;
  if (data_) munmap(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
  void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) return false;
  if (huge) madvise(block, bytes, MADV_HUGEPAGE);  // a hint: without huge pages a run is slower, not wrong
  data_ = static_cast<uint8_t*>(block);
  bytes_ = bytes;
  return true;
}

void Memory::shrink(size_t bytes) {
  constexpr size_t kLargestPage = 65536;
  if (!data_ || bytes >= bytes_) return;
  bytes = (bytes + kLargestPage - 1) / kLargestPage * kLargestPage;
  if (bytes >= bytes_) return;
  munmap(data_ + bytes, bytes_ - bytes);
  bytes_ = bytes;
  if (bytes == 0) data_ = nullptr;
}

}  // namespace oe
