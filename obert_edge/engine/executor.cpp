#include "executor.h"

#include <time.h>

#include "float_mode.h"
#include "status.h"

namespace oe {
namespace {

constexpr size_t kAlignment = 64;

uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

int32_t Executor::start(int32_t threads) {
  if (!addresses_.allocate(program_.buffers.size()) || !slot_bytes_.allocate(program_.slots) ||
      !op_nanoseconds_.allocate(program_.ops.size())) {
    return fail(OE_OUT_OF_MEMORY, "no memory for the buffer tables");
  }
  if (!pool_.start(threads)) return fail(OE_OUT_OF_MEMORY, "the system gave no %d threads", threads);
  return OE_OK;
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

// A slot is as large as the largest of its buffers. Slots lie one after the other.
int32_t Executor::plan_arena() {
  for (size_t& bytes : slot_bytes_) bytes = 0;
  for (const Buffer& buffer : program_.buffers) {
    const size_t bytes = aligned(bytes_of_buffer(buffer));
    if (bytes > slot_bytes_[buffer.slot]) slot_bytes_[buffer.slot] = bytes;
  }
  size_t total = 0;
  for (size_t& bytes : slot_bytes_) {
    const size_t offset = total;
    if (__builtin_add_overflow(total, bytes, &total)) return fail(OE_OUT_OF_MEMORY, "the batch is too large");
    bytes = offset;
  }
  if (!arena_.reserve(total)) {
    return fail(OE_OUT_OF_MEMORY, "no memory for the %zu bytes this batch of %d tokens takes", total, batch_.tokens);
  }
  for (size_t i = 0; i < program_.buffers.size(); ++i) {
    addresses_[i] = arena_.data() + slot_bytes_[program_.buffers[i].slot];
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

// ---- arguments

EmbedArgs Executor::embed_args(const Op& op) const {
  using namespace embed_op;
  EmbedArgs args = {};
  args.ids = batch_.ids;
  args.positions = batch_.positions;
  args.token_types = batch_.token_types;
  args.word = program_.constant<int8_t>(op.consts[kWord]);
  args.word_scale = program_.constant<float>(op.consts[kWordScale]);
  args.position = program_.constant<int8_t>(op.consts[kPosition]);
  args.position_scale = program_.constant<float>(op.consts[kPositionScale]);
  args.token_type = program_.constant<int8_t>(op.consts[kTokenType]);
  args.token_type_scale = args.token_type ? program_.constant<float>(op.consts[kTokenTypeScale]) : nullptr;
  args.output = buffer<float>(op.outputs[0]);
  args.columns = batch_.tokens;
  args.channels = op.ints[kChannels];
  return args;
}

LayerNormArgs Executor::layer_norm_args(const Op& op) const {
  using namespace layer_norm_op;
  LayerNormArgs args = {};
  args.input = buffer<float>(op.inputs[0]);
  args.output = buffer<float>(op.outputs[kOutput]);
  args.quantized = buffer<uint8_t>(op.outputs[kQuantized]);
  args.gamma = program_.constant<float>(op.consts[kGamma]);
  args.beta = program_.constant<float>(op.consts[kBeta]);
  args.columns = columns_of(program_.buffers[static_cast<size_t>(op.inputs[0])]);
  args.channels = op.ints[kChannels];
  args.zero_point = op.ints[kZeroPoint];
  args.epsilon = op.floats[kEpsilon];
  args.inv_scale = op.floats[kInvScale];
  return args;
}

QuantizeArgs Executor::quantize_args(const Op& op) const {
  using namespace quantize_op;
  QuantizeArgs args = {};
  args.input = buffer<float>(op.inputs[0]);
  args.output = buffer<uint8_t>(op.outputs[kOutput]);
  args.params = op.kind == OpKind::QuantizeDynamic ? buffer<float>(op.outputs[kParams]) : nullptr;
  args.columns = columns_of(program_.buffers[static_cast<size_t>(op.inputs[0])]);
  args.channels = op.ints[kChannels];
  args.zero_point = op.ints[kZeroPoint];
  args.inv_scale = op.floats[kInvScale];
  return args;
}

LinearArgs Executor::linear_args(const Op& op) const {
  using namespace linear_op;
  const Buffer& output = program_.buffers[static_cast<size_t>(op.outputs[0])];
  LinearArgs args = {};
  args.input = buffer<uint8_t>(op.inputs[kInput]);
  args.params = buffer<float>(op.inputs[kParams]);
  args.residual = buffer<float>(op.inputs[kResidual]);
  args.output = buffer<void>(op.outputs[0]);
  args.out_type = output.dtype;
  args.activation = static_cast<Activation>(op.ints[kActivation]);
  args.columns = columns_of(output);
  args.k = op.ints[kK];
  args.n = op.ints[kN];
  args.groups = op.ints[kGroups];
  args.rows = program_.constant<uint32_t>(op.consts[kRows]);
  args.offsets = program_.constant<uint32_t>(op.consts[kOffsets]);
  args.columns_of = program_.constant<uint16_t>(op.consts[kColumns]);
  args.weights = program_.constant<int8_t>(op.consts[kWeights]);
  args.scale = program_.constant<float>(op.consts[kScale]);
  args.bias = program_.constant<float>(op.consts[kBias]);
  args.correction = program_.constant<int32_t>(op.consts[kCorrection]);
  args.zero_point = op.ints[kZeroPoint];
  args.lo = op.ints[kLo];
  args.hi = op.ints[kHi];
  args.inv_scale = op.floats[kInvScale];
  return args;
}

AttentionArgs Executor::attention_args(const Op& op) const {
  using namespace attention_op;
  AttentionArgs args = {};
  args.query = buffer<uint8_t>(op.inputs[kQuery]);
  args.key = buffer<int8_t>(op.inputs[kKey]);
  args.value = buffer<int8_t>(op.inputs[kValue]);
  args.output = buffer<void>(op.outputs[0]);
  args.out_type = program_.buffers[static_cast<size_t>(op.outputs[0])].dtype;
  args.columns = batch_.tokens;
  args.starts = batch_.starts;
  args.heads = op.ints[kHeads];
  args.head_dim = op.ints[kHeadDim];
  args.query_zero_point = op.ints[kQueryZeroPoint];
  args.zero_point = op.ints[kZeroPoint];
  args.score_scale = op.floats[kScoreScale];
  args.context_scale = op.floats[kContextScale];
  return args;
}

PoolArgs Executor::pool_args(const Op& op) const {
  PoolArgs args = {};
  args.input = buffer<float>(op.inputs[0]);
  args.output = buffer<float>(op.outputs[0]);
  args.starts = batch_.starts;
  args.columns = batch_.tokens;
  args.sequences = batch_.sequences;
  args.channels = op.ints[pool_op::kChannels];
  return args;
}

// ---- tasks

template <class Body>
void Executor::parallel(int32_t tasks, const Body& body) {
  pool_.parallel_for(
      tasks,
      [](void* context, int32_t task, int32_t thread) { (*static_cast<const Body*>(context))(task, thread); },
      const_cast<Body*>(&body));
}

template <class Body>
void Executor::parallel_columns(int32_t columns, int32_t smallest, const Body& body) {
  const int32_t padded = (columns + kStep - 1) / kStep * kStep;
  int32_t block = kPanel;
  while (block > smallest && (padded + block - 1) / block < pool_.threads()) block /= 2;
  parallel((padded + block - 1) / block, [&](int32_t task, int32_t) {
    const int32_t begin = task * block;
    body(begin, begin + block < padded ? begin + block : padded);
  });
}

// A linear is cut into (panel, range of groups): ranges hold about the same work, counted in multiply-add vectors.
void Executor::run_linear(const Op& op) {
  constexpr uint64_t kGroupWork = 8;       // of an epilogue, in quads
  constexpr uint64_t kSmallestTask = 512;  // quads: some microseconds
  constexpr int32_t kTasksPerThread = 4;   // so that an unlucky thread holds up the others for a short while only
  const LinearArgs args = linear_args(op);
  const LinearFn kernel = kernels_.linear[op.ints[linear_op::kFormat]];
  const bool dense = static_cast<Format>(op.ints[linear_op::kFormat]) == Format::Dense4;
  const uint64_t dense_quads = (static_cast<uint64_t>(args.k) + 3) / 4;
  const auto work_before = [&](int32_t group) {
    const uint64_t g = static_cast<uint64_t>(group);
    return g * kGroupWork + (dense ? g * dense_quads : args.offsets[group]);
  };
  const int32_t panels = panel_count(args.columns);
  const uint64_t work = work_before(args.groups);

  int32_t ranges = (pool_.threads() * kTasksPerThread + panels - 1) / panels;
  const uint64_t worthwhile = work / kSmallestTask + 1;
  if (pool_.threads() == 1) ranges = 1;
  if (static_cast<uint64_t>(ranges) > worthwhile) ranges = static_cast<int32_t>(worthwhile);
  if (ranges > args.groups) ranges = args.groups;

  // First group with at least range/ranges of the work before it.
  const auto boundary = [&](int32_t range) {
    const uint64_t target = work * static_cast<uint64_t>(range) / static_cast<uint64_t>(ranges);
    int32_t low = 0, high = args.groups;
    while (low < high) {
      const int32_t middle = low + (high - low) / 2;
      if (work_before(middle) < target) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  };
  parallel(panels * ranges, [&](int32_t task, int32_t thread) {
    const int32_t panel = task / ranges, range = task % ranges;
    const int32_t begin = boundary(range), end = range + 1 == ranges ? args.groups : boundary(range + 1);
    if (begin < end) kernel(args, panel, begin, end, scratch_of(thread));
  });
}

void Executor::run_attention(const Op& op) {
  const AttentionArgs args = attention_args(op);
  parallel(batch_.sequences * args.heads, [&](int32_t task, int32_t thread) {
    kernels_.attention(args, task / args.heads, task % args.heads, scratch_of(thread));
  });
}

// Panels to row-major.
void Executor::run_output(const Op& op, float* destination) {
  const int32_t index = op.inputs[0];
  const int32_t columns = columns_of(program_.buffers[static_cast<size_t>(index)]);
  const size_t channels = static_cast<size_t>(op.ints[pool_op::kChannels]);
  const float* source = buffer<float>(index);
  parallel_columns(columns, kStep, [&](int32_t begin, int32_t end) {
    constexpr size_t kBlock = 16;  // channels, so that both sides stay in whole cache lines
    const int32_t panel = begin / kPanel;
    const size_t width = static_cast<size_t>(panel_width(columns, panel));
    const float* rows = source + static_cast<size_t>(panel) * kPanel * channels + begin % kPanel;
    const int32_t real = end < columns ? end : columns;
    for (size_t first = 0; first < channels; first += kBlock) {
      const size_t last = first + kBlock < channels ? first + kBlock : channels;
      for (int32_t t = begin; t < real; ++t) {
        float* out = destination + static_cast<size_t>(t) * channels;
        for (size_t c = first; c < last; ++c) out[c] = rows[c * width + static_cast<size_t>(t - begin)];
      }
    }
  });
}

void Executor::run_op(const Op& op) {
  switch (op.kind) {
    case OpKind::Embed: {
      const EmbedArgs args = embed_args(op);
      return parallel_columns(args.columns, kStep, [&](int32_t begin, int32_t end) { kernels_.embed(args, begin, end); });
    }
    case OpKind::LayerNorm: {
      const LayerNormArgs args = layer_norm_args(op);
      return parallel_columns(args.columns, kPanel, [&](int32_t begin, int32_t end) { kernels_.layer_norm(args, begin, end); });
    }
    case OpKind::Quantize:
    case OpKind::QuantizeDynamic: {
      const QuantizeArgs args = quantize_args(op);
      const QuantizeFn kernel = args.params ? kernels_.quantize_dynamic : kernels_.quantize;
      return parallel_columns(args.columns, kPanel, [&](int32_t begin, int32_t end) { kernel(args, begin, end); });
    }
    case OpKind::Linear:
      return run_linear(op);
    case OpKind::Attention:
      return run_attention(op);
    case OpKind::SelectFirst:
    case OpKind::MeanPool: {
      const PoolArgs args = pool_args(op);
      const PoolFn kernel = op.kind == OpKind::MeanPool ? kernels_.mean_pool : kernels_.select_first;
      return parallel(args.sequences, [&](int32_t sequence, int32_t) { kernel(args, sequence); });
    }
    case OpKind::Output:
      break;  // run() writes it to the caller's memory
  }
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
  for (int32_t i = 0; i < repeats; ++i) run_op(program_.ops[static_cast<size_t>(index)]);
  if (nanoseconds) *nanoseconds = now() - before;
  return OE_OK;
}

int32_t Executor::run(const oe_batch& batch, float* const* outputs) {
  take_batch(batch);
  int32_t status = plan_arena();
  if (status == OE_OK) status = plan_scratch();
  if (status != OE_OK) return status;

  const FloatMode float_mode;
  uint64_t before = profiling_ ? now() : 0;
  int32_t next_output = 0;
  for (size_t i = 0; i < program_.ops.size(); ++i) {
    const Op& op = program_.ops[i];
    if (op.kind == OpKind::Output) {
      run_output(op, outputs[next_output++]);
    } else {
      run_op(op);
    }
    if (profiling_) {
      const uint64_t after = now();
      op_nanoseconds_[i] += after - before;
      before = after;
    }
  }
  profiled_runs_ += profiling_;
  return OE_OK;
}

}  // namespace oe
