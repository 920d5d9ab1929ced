// Quantize and QuantizeDynamic: float to 8 bits, with the scale of the program or with one for each token.
#include "exec/parallel.h"
#include "ops/definition.h"

namespace oe {
namespace {

// ---- what they accept

int32_t check_common(const OpCheck& check, int32_t input, int32_t output, int32_t channels) {
  OE_CHECK(check.channels(channels));
  OE_CHECK(check.buffer("input", input, kF32, channels));
  OE_CHECK(check.buffer("output", output, kU8, channels));
  OE_CHECK(check.domain("output", output, check.domain_of(input)));
  return check.distinct("input", input, "output", output);
}

int32_t check_static(const OpCheck& check) {
  const QuantizeFields op = quantize_fields(check.op);
  OE_CHECK(check_common(check, op.input, op.output, op.channels));
  OE_CHECK(check.in_range("zero_point", op.zero_point, 0, 255));
  return check.positive("inv_scale", op.inv_scale);
}

int32_t check_dynamic(const OpCheck& check) {
  const QuantizeDynamicFields op = quantize_dynamic_fields(check.op);
  OE_CHECK(check_common(check, op.input, op.output, op.channels));
  OE_CHECK(check.buffer("params", op.params, kF32, 2));
  OE_CHECK(check.domain("params", op.params, check.domain_of(op.input)));
  OE_CHECK(check.distinct("input", op.input, "params", op.params));
  return check.distinct("output", op.output, "params", op.params);
}

// ---- how they run

QuantizeArgs static_args(const Run& run, int32_t index) {
  const QuantizeFields op = quantize_fields(run.op(index));
  QuantizeArgs args = {};
  args.input = run.buffer<float>(op.input);
  args.output = run.buffer<uint8_t>(op.output);
  args.tokens = run.tokens_of(op.input);
  args.channels = op.channels;
  args.zero_point = op.zero_point;
  args.inv_scale = op.inv_scale;
  return args;
}

QuantizeArgs dynamic_args(const Run& run, int32_t index) {
  const QuantizeDynamicFields op = quantize_dynamic_fields(run.op(index));
  QuantizeArgs args = {};
  args.input = run.buffer<float>(op.input);
  args.output = run.buffer<uint8_t>(op.output);
  args.params = run.buffer<float>(op.params);
  args.tokens = run.tokens_of(op.input);
  args.channels = op.channels;
  return args;
}

void run_batch(const Run& run, QuantizeFn kernel, const QuantizeArgs& args) {
  parallel_tokens(run.pool, args.tokens, kPanel, [&](int32_t begin, int32_t end) { kernel(args, begin, end); });
}

void run_panel(const Run& run, QuantizeFn kernel, const QuantizeArgs& args, int32_t panel) {
  const TokenRange range = tokens_of_panel(run.batch.tokens, panel);
  kernel(args, range.begin, range.end);
}

constexpr OpDefinition define_static() {
  OpDefinition op;
  op.check = check_static;
  op.run = [](const Run& run, int32_t index, int32_t) {
    run_batch(run, run.kernels.quantize, static_args(run, index));
  };
  op.run_panel = [](const Run& run, int32_t index, int32_t panel, int32_t) {
    run_panel(run, run.kernels.quantize, static_args(run, index), panel);
  };
  return op;
}

constexpr OpDefinition define_dynamic() {
  OpDefinition op;
  op.check = check_dynamic;
  op.run = [](const Run& run, int32_t index, int32_t) {
    run_batch(run, run.kernels.quantize_dynamic, dynamic_args(run, index));
  };
  op.run_panel = [](const Run& run, int32_t index, int32_t panel, int32_t) {
    run_panel(run, run.kernels.quantize_dynamic, dynamic_args(run, index), panel);
  };
  return op;
}

}  // namespace

const OpDefinition kQuantizeDefinition = define_static();
const OpDefinition kQuantizeDynamicDefinition = define_dynamic();

}  // namespace oe
