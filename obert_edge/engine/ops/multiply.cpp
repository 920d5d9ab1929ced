// Multiply: the product of two values, channel by channel, as float or 8 bits.
#include "exec/parallel.h"
#include "ops/definition.h"

namespace oe {
namespace {

// ---- what it accepts

int32_t check_op(const OpCheck& check) {
  const MultiplyFields op = multiply_fields(check.op);
  OE_CHECK(check.channels(op.channels));
  OE_CHECK(check.buffer("left", op.left, kF32, op.channels));
  OE_CHECK(check.buffer("right", op.right, kF32, op.channels));
  OE_CHECK(check.buffer("output", op.output, kU8 | kF32, op.channels));
  OE_CHECK(check.domain("right", op.right, check.domain_of(op.left)));
  OE_CHECK(check.domain("output", op.output, check.domain_of(op.left)));
  OE_CHECK(check.distinct("left", op.left, "output", op.output));
  OE_CHECK(check.distinct("right", op.right, "output", op.output));
  OE_CHECK(check.in_range("zero_point", op.zero_point, 0, 255));
  return check.positive("inv_scale", op.inv_scale);
}

// ---- how it runs

MultiplyArgs args_of(const Run& run, int32_t index) {
  const MultiplyFields op = multiply_fields(run.op(index));
  MultiplyArgs args = {};
  args.left = run.buffer<float>(op.left);
  args.right = run.buffer<float>(op.right);
  args.output = run.buffer<void>(op.output);
  args.out_type = run.program.buffer(op.output).dtype;
  args.tokens = run.tokens_of(op.left);
  args.channels = op.channels;
  args.zero_point = op.zero_point;
  args.inv_scale = op.inv_scale;
  return args;
}

void run_batch(const Run& run, int32_t index, int32_t) {
  const MultiplyArgs args = args_of(run, index);
  parallel_tokens(run.pool, args.tokens, kPanel,
                  [&](int32_t begin, int32_t end) { run.kernels.multiply(args, begin, end); });
}

void run_panel(const Run& run, int32_t index, int32_t panel, int32_t) {
  const TokenRange range = tokens_of_panel(run.batch.tokens, panel);
  run.kernels.multiply(args_of(run, index), range.begin, range.end);
}

constexpr OpDefinition define() {
  OpDefinition op;
  op.check = check_op;
  op.run = run_batch;
  op.run_panel = run_panel;
  return op;
}

}  // namespace

const OpDefinition kMultiplyDefinition = define();

}  // namespace oe
