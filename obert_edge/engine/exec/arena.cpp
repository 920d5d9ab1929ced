#include "exec/arena.h"

#include "base/status.h"

namespace oe {
namespace {

// Sizes are counted in 64 bits: on a 32-bit CPU a buffer of the largest batch has more bytes than there are addresses.
uint64_t aligned(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

// Bytes of one token (or sequence) of a buffer.
uint64_t bytes_per_token(const Buffer& buffer) {
  return uint64_t{buffer.channels} * static_cast<uint64_t>(bytes_of(buffer.dtype));
}

// Buffers of one slot share their memory when a token takes as many bytes in both: then a panel of one covers exactly a
// panel of the other, and threads may be at different ops with different panels (Step::by_panels).
bool share_memory(const Buffer& a, const Buffer& b) {
  return a.slot == b.slot && a.domain == b.domain && bytes_per_token(a) == bytes_per_token(b);
}

}  // namespace

int32_t Arena::plan(const Program& program) {
  constexpr size_t kMostBuffers = 1024;  // they are compared with each other; a model has some 20
  program_ = &program;
  const Array<Buffer>& buffers = program.buffers;
  if (buffers.size() > kMostBuffers) {
    return fail(OE_INVALID_PROGRAM, "the program has %zu buffers; this engine takes %zu", buffers.size(), kMostBuffers);
  }
  if (!owners_.allocate(buffers.size()) || !addresses_.allocate(buffers.size())) {
    return fail(OE_OUT_OF_MEMORY, "no memory for the buffer tables");
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    size_t first = 0;
    while (!share_memory(buffers[first], buffers[i])) ++first;
    owners_[i] = static_cast<int32_t>(first);
  }
  return OE_OK;
}

uint64_t Arena::bytes_of_buffer(const Buffer& buffer, const oe_batch& batch) const {
  const auto tokens = static_cast<uint64_t>(buffer.domain == Domain::Tokens ? batch.tokens : batch.sequences);
  return (tokens + kStep - 1) / kStep * kStep * bytes_per_token(buffer);
}

int32_t Arena::place(const oe_batch& batch) {
  const Array<Buffer>& buffers = program_->buffers;
  uint64_t total = 0;
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (owners_[i] == static_cast<int32_t>(i) &&
        __builtin_add_overflow(total, aligned(bytes_of_buffer(buffers[i], batch)), &total)) {
      return fail(OE_OUT_OF_MEMORY, "the batch is too large");
    }
  }
  if (total > SIZE_MAX || !memory_.reserve(static_cast<size_t>(total))) {
    return fail(OE_OUT_OF_MEMORY, "no memory for the %llu bytes this batch of %d tokens takes",
                static_cast<unsigned long long>(total), batch.tokens);
  }
  uint8_t* free = memory_.data();
  for (size_t i = 0; i < buffers.size(); ++i) {
    const size_t owner = static_cast<size_t>(owners_[i]);
    if (owner == i) {
      addresses_[i] = free;
      free += aligned(bytes_of_buffer(buffers[i], batch));
    } else {
      addresses_[i] = addresses_[owner];
    }
  }
  return OE_OK;
}

}  // namespace oe
