// LayerNorm, RMS norm, or gamma and beta alone: over the channels of each token, to float, quantized, or both.
#include "exec/parallel.h"
#include "ops/definition.h"

namespace oe {
namespace {

// ---- what it accepts

int32_t check_op(const OpCheck& check) {
  const LayerNormFields op = layer_norm_fields(check.op);
  OE_CHECK(check.channels(op.channels));
  OE_CHECK(check.buffer("input", op.input, kF32, op.channels));
  OE_CHECK(check.buffer("output", op.output, kF32, op.channels, true));
  OE_CHECK(check.buffer("quantized output", op.quantized, kU8, op.channels, true));
  OE_CHECK(check.domain("output", op.output, check.domain_of(op.input)));
  OE_CHECK(check.domain("quantized output", op.quantized, check.domain_of(op.input)));
  OE_CHECK(check.distinct("input", op.input, "quantized output", op.quantized));
  OE_CHECK(check.distinct("output", op.output, "quantized output", op.quantized));
  OE_CHECK(check.floats("gamma", op.gamma, op.channels));
  OE_CHECK(check.floats("beta", op.beta, op.channels));
  OE_CHECK(check.in_range("kind", static_cast<int32_t>(op.kind), kFirstNormKind, kLastNormKind));
  OE_CHECK(check.positive("epsilon", op.epsilon));
  // Kernels may compute with the zero point even where nothing is quantized.
  OE_CHECK(check.in_range("zero_point", op.zero_point, 0, 255));
  return op.quantized == kAbsent ? OE_OK : check.positive("inv_scale", op.inv_scale);
}

// ---- how it runs

LayerNormArgs args_of(const Run& run, int32_t index) {
  const LayerNormFields op = layer_norm_fields(run.op(index));
  LayerNormArgs args = {};
  args.input = run.buffer<float>(op.input);
  args.output = run.buffer<float>(op.output);
  args.quantized = run.buffer<uint8_t>(op.quantized);
  args.gamma = run.program.constant<float>(op.gamma);
  args.beta = run.program.constant<float>(op.beta);
  args.kind = op.kind;
  args.tokens = run.tokens_of(op.input);
  args.channels = op.channels;
  args.zero_point = op.zero_point;
  args.epsilon = op.epsilon;
  args.inv_scale = op.inv_scale;
  return args;
}

void run_batch(const Run& run, int32_t index, int32_t) {
  const LayerNormArgs args = args_of(run, index);
  parallel_tokens(run.pool, args.tokens, kPanel,
                  [&](int32_t begin, int32_t end) { run.kernels.layer_norm(args, begin, end); });
}

void run_panel(const Run& run, int32_t index, int32_t panel, int32_t) {
  const TokenRange range = tokens_of_panel(run.batch.tokens, panel);
  run.kernels.layer_norm(args_of(run, index), range.begin, range.end);
}

constexpr OpDefinition define() {
  OpDefinition op;
  op.check = check_op;
  op.run = run_batch;
  op.run_panel = run_panel;
  return op;
}

}  // namespace

const OpDefinition kLayerNormDefinition = define();

}  // namespace oe
