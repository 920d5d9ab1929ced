// Memory that each thread has to itself while a kernel runs.
#ifndef OBERT_EDGE_SCRATCH_H
#define OBERT_EDGE_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

#include "exec/elastic_memory.h"

namespace oe {

class Scratch {
 public:
  // Room for `bytes` bytes per thread, 64-byte aligned. False when there is no memory; then nothing is left.
  [[nodiscard]] bool reserve(size_t bytes, int32_t threads) {
    bytes = (bytes + 63) / 64 * 64;
    const bool done = memory_.reserve(bytes * static_cast<size_t>(threads));
    first_ = memory_.data();
    stride_ = done ? bytes : 0;
    return done;
  }

  void release() {
    memory_.release();
    first_ = nullptr;
    stride_ = 0;
  }

  // See ElasticMemory::abandon.
  void abandon() {
    memory_.abandon();
    first_ = nullptr;
    stride_ = 0;
  }

  void* of(int32_t thread) const { return first_ + static_cast<size_t>(thread) * stride_; }
  size_t bytes() const { return memory_.bytes(); }

 private:
  ElasticMemory memory_;
  uint8_t* first_ = nullptr;
  size_t stride_ = 0;
};

}  // namespace oe
#endif
