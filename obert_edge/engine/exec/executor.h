// Runs a program: plans the arena for a batch, cuts every op into tasks, and hands them to the thread pool.
#ifndef OBERT_EDGE_EXECUTOR_H
#define OBERT_EDGE_EXECUTOR_H

#include <stdint.h>

#include "base/array.h"
#include "ops/prepacked.h"
#include "kernels/kernels.h"
#include "ops/linear_traits.h"
#include "base/memory.h"
#include "obert_edge.h"
#include "program/program.h"
#include "exec/schedule.h"
#include "exec/thread_pool.h"

namespace oe {

class Executor {
 public:
  Executor(const Program& program, const Implementation& implementation)
      : program_(program), kernels_(implementation) {}

  // Starts the threads and takes the fixed memory.
  int32_t start(int32_t threads);

  // Runs every op; outputs[i] receives the i-th Output. Allocates only when the batch is larger than any before.
  int32_t run(const oe_batch& batch, float* const* outputs);

  // Runs one op (not an Output) on the caller's buffers, `repeats` times.
  int32_t run_op(int32_t index, const oe_batch& batch, void* const* buffers, int32_t repeats, uint64_t* nanoseconds);

  // The bytes of second-level cache a thread has while all work; 0: not known.
  void set_cache(uint64_t bytes) { cache_bytes_ = bytes; }

  uint64_t arena_bytes() const { return arena_.bytes() + scratch_.bytes(); }

  void profile(bool enable);
  const Array<uint64_t>& op_nanoseconds() const { return op_nanoseconds_; }
  uint64_t profiled_runs() const { return profiled_runs_; }

 private:
  int32_t columns_of(const Buffer& buffer) const {
    return buffer.domain == Domain::Tokens ? batch_.tokens : batch_.sequences;
  }
  size_t bytes_of_buffer(const Buffer& buffer) const;

  void take_batch(const oe_batch& batch);
  int32_t plan_places();
  int32_t plan_arena();
  int32_t plan_scratch();
  size_t scratch_for(const Op& op) const;
  void* scratch_of(int32_t thread) { return scratch_.data() + static_cast<size_t>(thread) * scratch_stride_; }

  template <class T>
  T* buffer(int32_t index) const {
    return index == kAbsent ? nullptr : static_cast<T*>(addresses_[static_cast<size_t>(index)]);
  }

  EmbedArgs embed_args(const Op& op) const;
  LayerNormArgs layer_norm_args(const Op& op) const;
  QuantizeArgs quantize_args(const Op& op) const;
  LinearArgs linear_args(const Op& op) const;
  AttentionArgs attention_args(const Op& op) const;
  PoolArgs pool_args(const Op& op) const;

  void run_step(const Step& step);
  void run_op(int32_t index);
  void run_panels(const Step& step, int32_t thread, int32_t panel);
  void run_panel(int32_t index, int32_t thread, int32_t panel);
  void run_tiles(int32_t index, LinearFn kernel, const LinearArgs& args, int32_t panel, int32_t begin, int32_t end,
                 int32_t thread);
  bool panels_balance() const;
  void run_linears(int32_t first, int32_t count);
  void run_attention(const Op& op);
  void run_output(const Op& op, float* destination);

  // Calls body(task, thread) for every task, on all threads.
  template <class Body>
  void parallel(int32_t tasks, const Body& body);
  // Calls body(begin, end) for ranges of at most one panel that cover `columns` columns. A panel is split for
  // more tasks, but not below `smallest` columns: ops that read and write a few cheap rows of a panel lose
  // more to cache lines shared by two threads than they gain (22 us on two threads against 9 on one).
  template <class Body>
  void parallel_columns(int32_t columns, int32_t smallest, const Body& body);

  uint64_t* thread_times(int32_t thread) {
    return thread_nanoseconds_.data() + static_cast<size_t>(thread) * program_.ops.size();
  }
  void share_out(const Step& step, double nanoseconds);

  const Program& program_;
  const Implementation& kernels_;
  Schedule schedule_;
  Prepacked prepacked_;
  Array<LinearTraits> linear_traits_;  // by op
  ThreadPool pool_;
  oe_batch batch_ = {};
  int32_t longest_ = 0;       // tokens of the longest sequence of the batch
  Array<void*> addresses_;    // of every buffer, for the batch at hand
  Array<int32_t> places_;     // of every buffer: the first buffer with which it shares its memory
  Memory arena_;
  Memory scratch_;
  size_t scratch_stride_ = 0;
  uint64_t cache_bytes_ = 0;
  bool profiling_ = false;
  Array<uint64_t> op_nanoseconds_;
  Array<uint64_t> thread_nanoseconds_;  // [threads][ops], of the step at hand
  uint64_t profiled_runs_ = 0;
};

}  // namespace oe
#endif
