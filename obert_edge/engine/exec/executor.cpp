#include "exec/executor.h"

#include "base/clock.h"
#include "base/status.h"
#include "exec/balance.h"
#include "exec/float_mode.h"
#include "exec/parallel.h"
#include "ops/definition.h"

namespace oe {

namespace {

// Says for as long as it lives that a run is under way.
class Running {
 public:
  explicit Running(bool* flag) : flag_(flag) { __atomic_store_n(flag_, true, __ATOMIC_SEQ_CST); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() { __atomic_store_n(flag_, false, __ATOMIC_SEQ_CST); }

 private:
  bool* flag_;
};

}  // namespace

int32_t Executor::start(int32_t threads) {
  if (!profile_.start(program_.ops.size(), threads)) return fail(OE_OUT_OF_MEMORY, "no memory for the profile");
  int32_t status = arena_.plan(program_);
  if (status == OE_OK) status = schedule_.plan(program_);
  if (status != OE_OK) return status;
  if (!pool_.start(threads)) return fail(OE_OUT_OF_MEMORY, "the system gave no %d threads", threads);
  return linears_.make(program_, run_.kernels, pool_);
}

// In a fork of the process that opened the model. Where another thread ran it when the process was forked, the arena
// and the scratch may have been copied halfway through growing, so they are taken anew.
void Executor::recover_from_fork() {
  if (running_) {
    arena_.abandon();
    scratch_.abandon();
    running_ = false;
  }
  pool_.restart();
}

void Executor::take_batch(const oe_batch& batch) {
  if (pool_.forked()) recover_from_fork();
  run_.batch = batch;
  run_.longest = 0;
  for (int32_t s = 0; s < batch.sequences; ++s) {
    const int32_t length = batch.starts[s + 1] - batch.starts[s];
    if (length > run_.longest) run_.longest = length;
  }
}

int32_t Executor::reserve_scratch() {
  size_t largest = 0;
  for (size_t i = 0; i < program_.ops.size(); ++i) {
    const auto scratch = definition_of(program_.ops[i]).scratch;
    const size_t bytes = scratch ? scratch(run_, static_cast<int32_t>(i)) : 0;
    if (bytes > largest) largest = bytes;
  }
  if (scratch_.reserve(largest, pool_.threads())) return OE_OK;
  return fail(OE_OUT_OF_MEMORY, "no memory for the scratch of sequences of %d tokens", run_.longest);
}

int32_t Executor::run_op(int32_t op, const oe_batch& batch, void* const* buffers, int32_t repeats,
                         uint64_t* nanoseconds) {
  take_batch(batch);
  const Running running(&running_);
  run_.addresses = buffers;
  const int32_t status = reserve_scratch();
  if (status != OE_OK) return status;
  const auto run = definition_of(run_.op(op)).run;
  interrupt_.start(nullptr, nullptr);
  const FloatMode float_mode;
  const uint64_t before = now();
  for (int32_t i = 0; i < repeats; ++i) run(run_, op, 1);
  if (nanoseconds) *nanoseconds = now() - before;
  return OE_OK;
}

void Executor::trim() {
  if (pool_.forked()) recover_from_fork();
  arena_.release();
  scratch_.release();
}

int32_t Executor::run(const oe_batch& batch, float* const* outputs, Interrupt::PollFn poll, void* context) {
  take_batch(batch);
  const Running running(&running_);
  run_.outputs = outputs;
  int32_t status = arena_.place(batch);
  run_.addresses = arena_.addresses();
  if (status == OE_OK) status = reserve_scratch();
  if (status != OE_OK) return status;
  const FloatMode float_mode;
  interrupt_.start(poll, context);
  pool_.watch(poll ? &interrupt_ : nullptr);
  pool_.hesitate(panel_count(batch.tokens) > 1);  // threads share the one panel of a short input
  for (const Step& step : schedule_.steps()) run_step(step);
  pool_.watch(nullptr);
  if (interrupt_.stopped()) return fail(OE_INTERRUPTED, "the caller ended the run");
  profile_.end_run();
  return OE_OK;
}

void Executor::run_step(const Step& step) {
  if (!step.by_panels || !panels_balance(run_.batch.tokens, pool_.threads())) return run_ops(step);
  if (interrupt_.stopped()) return;
  const uint64_t before = profile_.enabled() ? now() : 0;
  parallel(pool_, panel_count(run_.batch.tokens),
           [&](int32_t panel, int32_t thread) { run_panel(step, panel, thread); });
  if (profile_.enabled()) profile_.share_out(step.first, step.count, now() - before);
}

// One panel through all ops of the step: what an op writes is still in this core's cache when the next one reads it.
void Executor::run_panel(const Step& step, int32_t panel, int32_t thread) {
  uint64_t before = profile_.enabled() ? now() : 0;
  for (int32_t op = step.first; op < step.first + step.count; ++op) {
    definition_of(run_.op(op)).run_panel(run_, op, panel, thread);
    if (!profile_.enabled()) continue;
    const uint64_t after = now();
    profile_.spend(thread, op, after - before);
    before = after;
  }
}

// One op after the other (or several that may run together), each on all threads.
void Executor::run_ops(const Step& step) {
  uint64_t before = profile_.enabled() ? now() : 0;
  for (int32_t op = step.first, count; op < step.first + step.count && !interrupt_.stopped(); op += count) {
    const OpDefinition& definition = definition_of(run_.op(op));
    count = schedule_.together(op);
    definition.run(run_, op, count);
    if (!profile_.enabled()) continue;
    const uint64_t after = now();
    for (int32_t i = op; i < op + count; ++i) profile_.spend(0, i, definition.work ? definition.work(run_, i) : 1);
    profile_.share_out(op, count, after - before);
    before = after;
  }
}

}  // namespace oe
