// Rotate: rotary position embeddings of queries or keys, and their quantization.
#include "exec/parallel.h"
#include "ops/definition.h"

namespace oe {
namespace {

// ---- what it accepts

int32_t check_op(const OpCheck& check) {
  const RotateFields op = rotate_fields(check.op);
  OE_CHECK(check.in_range("heads", op.heads, 1, 4096));
  OE_CHECK(check.in_range("head_dim", op.head_dim, 2, 1024));
  if (op.head_dim % 2 != 0) OE_REFUSE(check, "its head_dim is %d; it must be even", op.head_dim);
  const int32_t channels = op.heads * op.head_dim;
  OE_CHECK(check.buffer("input", op.input, kF32, channels));
  OE_CHECK(check.buffer("output", op.output, kU8 | kS8, channels));
  OE_CHECK(check.domain("input", op.input, Domain::Tokens));
  OE_CHECK(check.domain("output", op.output, Domain::Tokens));
  OE_CHECK(check.distinct("input", op.input, "output", op.output));
  OE_CHECK(check.in_range("positions", op.positions, 1, 1 << 24));
  if (static_cast<uint32_t>(op.positions) < check.program.max_positions) {
    OE_REFUSE(check, "its tables have %d rows; max_positions is %u", op.positions, check.program.max_positions);
  }
  OE_CHECK(check.floats("cosine", op.cosine, int64_t{op.positions} * (op.head_dim / 2)));
  OE_CHECK(check.floats("sine", op.sine, int64_t{op.positions} * (op.head_dim / 2)));
  const bool is_signed = check.program.buffer(op.output).dtype == DType::S8;
  const int32_t least = is_signed ? kLeastCode : 0, most = is_signed ? 127 : 255;
  OE_CHECK(check.in_range("lo", op.lo, least, most));
  OE_CHECK(check.in_range("hi", op.hi, op.lo, most));
  OE_CHECK(check.in_range("zero_point", op.zero_point, op.lo, op.hi));
  return check.positive("inv_scale", op.inv_scale);
}

int32_t check_batch(const Op& record, const oe_batch& batch) {
  const int32_t rows = rotate_fields(record).positions;
  if (!batch.positions) return fail(OE_INVALID_INPUT, "the batch has no positions");
  for (int32_t t = 0; t < batch.tokens; ++t) {
    if (batch.positions[t] < 0 || batch.positions[t] >= rows) {
      return fail(OE_INVALID_INPUT, "positions[%d] is %d; it must be 0 to %d", t, batch.positions[t], rows - 1);
    }
  }
  return OE_OK;
}

// ---- how it runs

RotateArgs args_of(const Run& run, int32_t index) {
  const RotateFields op = rotate_fields(run.op(index));
  RotateArgs args = {};
  args.input = run.buffer<float>(op.input);
  args.output = run.buffer<void>(op.output);
  args.positions = run.batch.positions;
  args.cosine = run.program.constant<float>(op.cosine);
  args.sine = run.program.constant<float>(op.sine);
  args.tokens = run.batch.tokens;
  args.heads = op.heads;
  args.head_dim = op.head_dim;
  args.zero_point = op.zero_point;
  args.lo = op.lo;
  args.hi = op.hi;
  args.inv_scale = op.inv_scale;
  return args;
}

void run_batch(const Run& run, int32_t index, int32_t) {
  const RotateArgs args = args_of(run, index);
  parallel_tokens(run.pool, args.tokens, kStep,
                  [&](int32_t begin, int32_t end) { run.kernels.rotate(args, begin, end); });
}

void run_panel(const Run& run, int32_t index, int32_t panel, int32_t) {
  const TokenRange range = tokens_of_panel(run.batch.tokens, panel);
  run.kernels.rotate(args_of(run, index), range.begin, range.end);
}

constexpr OpDefinition define() {
  OpDefinition op;
  op.check = check_op;
  op.check_batch = check_batch;
  op.run = run_batch;
  op.run_panel = run_panel;
  return op;
}

}  // namespace

const OpDefinition kRotateDefinition = define();

}  // namespace oe
