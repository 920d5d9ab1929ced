// Runs a program: takes memory for a batch, and walks the steps of the schedule. What an op computes, and how it is cut
// for threads, is in ops/.
#ifndef OBERT_EDGE_EXECUTOR_H
#define OBERT_EDGE_EXECUTOR_H

#include <stdint.h>

#include "exec/arena.h"
#include "exec/interrupt.h"
#include "exec/profile.h"
#include "exec/run.h"
#include "exec/schedule.h"
#include "exec/scratch.h"
#include "exec/thread_pool.h"
#include "ops/linear_plans.h"

namespace oe {

class Executor {
 public:
  // Both must outlive the executor.
  Executor(const Program& program, const Implementation& implementation)
      : program_(program), run_{program, implementation, linears_, pool_, scratch_} {}
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Starts the threads, takes the memory that does not depend on a batch, and prepacks the weights.
  int32_t start(int32_t threads);

  // Runs every op; outputs[i] receives the i-th Output. Takes memory only when the batch is larger than recent ones.
  // `poll`: see Interrupt; where it stops the run, that is OE_INTERRUPTED.
  int32_t run(const oe_batch& batch, float* const* outputs, Interrupt::PollFn poll, void* context);

  // Runs one op on the caller's buffers, `repeats` times.
  int32_t run_op(int32_t op, const oe_batch& batch, void* const* buffers, int32_t repeats, uint64_t* nanoseconds);

  // The bytes of second-level cache a thread has while all work; 0: not known.
  void set_cache(uint64_t bytes) { run_.cache_bytes = bytes; }

  // Gives the memory of activations and scratch back; the next run takes what it needs.
  void trim();

  uint64_t arena_bytes() const { return arena_.bytes() + scratch_.bytes(); }
  Profile& profile() { return profile_; }
  const Profile& profile() const { return profile_; }

 private:
  void recover_from_fork();
  void take_batch(const oe_batch& batch);
  int32_t reserve_scratch();
  void run_step(const Step& step);
  void run_panel(const Step& step, int32_t panel, int32_t thread);
  void run_ops(const Step& step);

  const Program& program_;
  Arena arena_;
  Scratch scratch_;
  Schedule schedule_;
  LinearPlans linears_;
  Profile profile_;
  Interrupt interrupt_;
  ThreadPool pool_;  // after what its threads use, so that they are gone before it
  Run run_;
  bool running_ = false;
};

}  // namespace oe
#endif
