// A block of pages.
#ifndef OBERT_EDGE_MEMORY_H
#define OBERT_EDGE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

namespace oe {

class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();

  // After true there are at least `bytes` bytes at data(), page aligned. What was there is lost when it grows: the
  // old block is given back first, so that the two never add up.
  // `huge`: in huge pages where the system has them, for what every run reads from end to end.
  [[nodiscard]] bool reserve(size_t bytes, bool huge = false);

  // Gives back what lies beyond the first `bytes` bytes, rounded up to whole pages of any size a system may have.
  void shrink(size_t bytes);

  // Forgets the block without giving it back: for what a fork copied while another thread was changing it.
  void abandon() {
    data_ = nullptr;
    bytes_ = 0;
  }

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace oe
#endif
