// Memory that follows what runs need of it.
#ifndef OBERT_EDGE_ELASTIC_MEMORY_H
#define OBERT_EDGE_ELASTIC_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

namespace oe {

class ElasticMemory {
 public:
  // Room for the `bytes` bytes of a run; what was there is lost. It grows at once. It shrinks, to the largest of
  // kRequests requests in a row, when those took less than 1 / kTimes of it: so one batch that is much larger than all
  // that follow does not keep its memory, and batches of mixed sizes take none anew.
  [[nodiscard]] bool reserve(size_t bytes) {
    if (bytes > memory_.bytes()) {
      start_counting();
      return memory_.reserve(bytes);
    }
    if (bytes > largest_) largest_ = bytes;
    if (++requests_ == kRequests) {
      if (memory_.bytes() / kTimes > largest_ && memory_.bytes() - largest_ >= kWorthwhile) memory_.shrink(largest_);
      start_counting();
    }
    return true;
  }

  // Gives everything back.
  void release() {
    memory_.shrink(0);
    start_counting();
  }

  // See Memory::abandon.
  void abandon() {
    memory_.abandon();
    start_counting();
  }

  uint8_t* data() { return memory_.data(); }
  size_t bytes() const { return memory_.bytes(); }

 private:
  static constexpr int32_t kRequests = 64;
  static constexpr size_t kTimes = 4;
  static constexpr size_t kWorthwhile = 1 << 20;  // bytes

  void start_counting() {
    largest_ = 0;
    requests_ = 0;
  }

  Memory memory_;
  size_t largest_ = 0;    // of the requests since it grew, shrank, or last could have
  int32_t requests_ = 0;  // of these
};

}  // namespace oe
#endif
