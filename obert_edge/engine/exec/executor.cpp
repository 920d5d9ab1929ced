#include "exec/executor.h"

#include "base/clock.h"
#include "exec/float_mode.h"
#include "base/status.h"

namespace oe {
namespace {

constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

int32_t Executor::start(int32_t threads) {
  if (!addresses_.allocate(program_.buffers.size()) || !places_.allocate(program_.buffers.size()) ||
      !linear_traits_.allocate(program_.ops.size()) || !op_nanoseconds_.allocate(program_.ops.size()) ||
      !thread_nanoseconds_.allocate(program_.ops.size() * static_cast<size_t>(threads))) {
    return fail(OE_OUT_OF_MEMORY, "no memory for the buffer tables");
  }
  int32_t status = plan_places();
  if (status == OE_OK) status = schedule_.plan(program_, kernels_);
  if (status != OE_OK) return status;
  for (size_t i = 0; i < program_.ops.size(); ++i) {
    if (program_.ops[i].kind == OpKind::Linear) linear_traits_[i] = linear_traits(program_, program_.ops[i]);
  }
  if (!pool_.start(threads)) return fail(OE_OUT_OF_MEMORY, "the system gave no %d threads", threads);
  return prepacked_.expand(program_, kernels_, pool_);
}

void Executor::profile(bool enable) {
  profiling_ = enable;
  if (!enable) return;
  for (uint64_t& nanoseconds : op_nanoseconds_) nanoseconds = 0;
  profiled_runs_ = 0;
}

// ---- memory

size_t Executor::bytes_of_buffer(const Buffer& buffer) const {
  const size_t columns = (static_cast<size_t>(columns_of(buffer)) + kStep - 1) / kStep * kStep;
  return columns * buffer.channels * bytes_of(buffer.dtype);
}

// Buffers of one slot share their memory when they take as many bytes per column: then a panel of one covers exactly a
// panel of the other, and panels may be at different ops (Step::by_panels).
int32_t Executor::plan_places() {
  constexpr size_t kMostBuffers = 1024;  // they are compared with each other; a model has some 20
  const Array<Buffer>& buffers = program_.buffers;
  if (buffers.size() > kMostBuffers) {
    return fail(OE_INVALID_PROGRAM, "the program has %zu buffers; this engine takes %zu", buffers.size(), kMostBuffers);
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    const auto shares = [](const Buffer& a, const Buffer& b) {
      return a.slot == b.slot && a.domain == b.domain &&
             a.channels * bytes_of(a.dtype) == b.channels * bytes_of(b.dtype);
    };
    size_t first = 0;
    while (!shares(buffers[first], buffers[i])) ++first;
    places_[i] = static_cast<int32_t>(first);
  }
  return OE_OK;
}

// The places lie one after the other.
int32_t Executor::plan_arena() {
  const Array<Buffer>& buffers = program_.buffers;
  size_t total = 0;
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (places_[i] == static_cast<int32_t>(i) &&
        __builtin_add_overflow(total, aligned(bytes_of_buffer(buffers[i])), &total)) {
      return fail(OE_OUT_OF_MEMORY, "the batch is too large");
    }
  }
  if (!arena_.reserve(total)) {
    return fail(OE_OUT_OF_MEMORY, "no memory for the %zu bytes this batch of %d tokens takes", total, batch_.tokens);
  }
  uint8_t* free = arena_.data();
  for (size_t i = 0; i < buffers.size(); ++i) {
    const size_t place = static_cast<size_t>(places_[i]);
    if (place == i) {
      addresses_[i] = free;
      free += aligned(bytes_of_buffer(buffers[i]));
    } else {
      addresses_[i] = addresses_[place];
    }
  }
  return OE_OK;
}

size_t Executor::scratch_for(const Op& op) const {
  if (op.kind == OpKind::Linear) return kernels_.linear_scratch(linear_args(op));
  if (op.kind == OpKind::Attention) return kernels_.attention_scratch(op.ints[attention_op::kHeadDim], longest_);
  return 0;
}

int32_t Executor::plan_scratch() {
  size_t largest = 0;
  for (const Op& op : program_.ops) {
    const size_t bytes = scratch_for(op);
    if (bytes > largest) largest = bytes;
  }
  largest = aligned(largest);
  if (largest <= scratch_stride_) return OE_OK;
  if (!scratch_.reserve(largest * static_cast<size_t>(pool_.threads()))) {
    scratch_stride_ = 0;
    return fail(OE_OUT_OF_MEMORY, "no memory for the scratch of sequences of %d tokens", longest_);
  }
  scratch_stride_ = largest;
  return OE_OK;
}

void Executor::take_batch(const oe_batch& batch) {
  batch_ = batch;
  longest_ = 0;
  for (int32_t s = 0; s < batch.sequences; ++s) {
    const int32_t length = batch.starts[s + 1] - batch.starts[s];
    if (length > longest_) longest_ = length;
  }
}

int32_t Executor::run_op(int32_t index, const oe_batch& batch, void* const* buffers, int32_t repeats,
                         uint64_t* nanoseconds) {
  take_batch(batch);
  for (size_t i = 0; i < addresses_.size(); ++i) addresses_[i] = buffers[i];
  const int32_t status = plan_scratch();
  if (status != OE_OK) return status;
  const FloatMode float_mode;
  const uint64_t before = now();
  for (int32_t i = 0; i < repeats; ++i) run_op(index);
  if (nanoseconds) *nanoseconds = now() - before;
  return OE_OK;
}

int32_t Executor::run(const oe_batch& batch, float* const* outputs) {
  take_batch(batch);
  int32_t status = plan_arena();
  if (status == OE_OK) status = plan_scratch();
  if (status != OE_OK) return status;

  const FloatMode float_mode;
  int32_t next_output = 0;
  for (const Step& step : schedule_.steps()) {
    const Op& op = program_.ops[static_cast<size_t>(step.first)];
    if (op.kind != OpKind::Output) {
      run_step(step);
      continue;
    }
    const uint64_t before = profiling_ ? now() : 0;
    run_output(op, outputs[next_output++]);
    if (profiling_) op_nanoseconds_[static_cast<size_t>(step.first)] += now() - before;
  }
  profiled_runs_ += profiling_;
  return OE_OK;
}

}  // namespace oe
