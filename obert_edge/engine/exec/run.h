// What an op has at hand while it runs.
#ifndef OBERT_EDGE_RUN_H
#define OBERT_EDGE_RUN_H

#include <stdint.h>

#include "exec/scratch.h"
#include "exec/thread_pool.h"
#include "kernels/kernels.h"
#include "obert_edge.h"
#include "program/program.h"

namespace oe {

class LinearPlans;

struct Run {
  const Program& program;
  const Implementation& kernels;
  const LinearPlans& linears;
  ThreadPool& pool;
  Scratch& scratch;

  oe_batch batch = {};
  int32_t longest = 0;               // tokens of the longest sequence of the batch
  void* const* addresses = nullptr;  // of every buffer of the program
  float* const* outputs = nullptr;   // the caller's arrays, one per Output op
  uint64_t cache_bytes = 0;          // second-level cache a thread has while all work; 0: not known

  const Op& op(int32_t index) const { return program.ops[static_cast<size_t>(index)]; }

  // The address of a buffer; nullptr when it is absent.
  template <class T>
  T* buffer(int32_t index) const {
    return index == kAbsent ? nullptr : static_cast<T*>(addresses[static_cast<size_t>(index)]);
  }

  // How many vectors of channels a buffer holds for the batch: one per token, or one per sequence.
  int32_t tokens_of(int32_t buffer) const {
    return program.buffer(buffer).domain == Domain::Tokens ? batch.tokens : batch.sequences;
  }
};

}  // namespace oe
#endif
