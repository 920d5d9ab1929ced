// Memory that each thread has to itself while a kernel runs.
#ifndef OBERT_EDGE_SCRATCH_H
#define OBERT_EDGE_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/array.h"
#include "exec/elastic_memory.h"

namespace oe {

class Scratch {
 public:
  // Room for `bytes` bytes per thread, 64-byte aligned. False when there is no memory; then nothing is left.
  [[nodiscard]] bool reserve(size_t bytes, int32_t threads) {
    if (notes_.size() != static_cast<size_t>(threads) && !notes_.allocate(static_cast<size_t>(threads))) {
      release();
      return false;
    }
    bytes = (bytes + 63) / 64 * 64;
    size_t all = 0;
    const bool done = !__builtin_mul_overflow(bytes, static_cast<size_t>(threads), &all) && memory_.reserve(all);
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
    for (Note& note : notes_) note = {};  // a fork may have copied those of an op that op_ does not count yet
  }

  void* of(int32_t thread) const { return first_ + static_cast<size_t>(thread) * stride_; }
  size_t bytes() const { return memory_.bytes(); }

  // A thread that takes several tasks of an op need not make for each what all of them read: it notes what it left in
  // its memory, as part `part` of what `maker` makes. Notes count until the next forget(), which an op calls before its
  // tasks start.
  void forget() { ++op_; }
  void note(int32_t thread, uintptr_t maker, int32_t part) {
    notes_[static_cast<size_t>(thread)] = {op_, maker, part, {}};
  }
  bool holds(int32_t thread, uintptr_t maker, int32_t part) const {
    const Note& note = notes_[static_cast<size_t>(thread)];
    return note.op == op_ && note.maker == maker && note.part == part;
  }

 private:
  // As long as a cache line, so that threads seldom write to each other's.
  struct Note {
    uint64_t op;
    uintptr_t maker;
    int32_t part;
    uint8_t unused[64 - 8 - 2 * sizeof(uintptr_t)];
  };

  ElasticMemory memory_;
  uint8_t* first_ = nullptr;
  size_t stride_ = 0;
  Array<Note> notes_;
  uint64_t op_ = 1;  // no note of a thread that wrote none has this number
};

}  // namespace oe
#endif
