// Attention: one task for each head of each sequence.
#include "exec/parallel.h"
#include "ops/definition.h"

namespace oe {
namespace {

// ---- what it accepts

// Of a relative bias: further than any position table reaches.
constexpr int32_t kMaxDistances = 1 << 20;

// Rows of position tables, which are numbered in 16 bits.
constexpr int32_t kMaxPositions = 1 << 16;

int32_t check_positions(const OpCheck& check, const AttentionFields& op) {
  if (op.distances < 1) OE_REFUSE(check, "it has %d positions of no distances", op.positions);
  if (op.bias != kAbsent || op.window > 0)
    OE_REFUSE(check, "it has %d positions beside a bias or a window", op.positions);
  if (op.head_dim % 4 != 0) OE_REFUSE(check, "it has positions; its head_dim %d must be a multiple of 4", op.head_dim);
  const int64_t rows = int64_t{op.heads} * op.positions, numbers = 2 * int64_t{op.distances} - 1;
  const uint64_t bytes = static_cast<uint64_t>(rows * op.head_dim);
  OE_CHECK(check.codes("position_key", op.position_key, bytes));
  OE_CHECK(check.codes("position_query", op.position_query, bytes));
  OE_CHECK(check.floats("position_key_scale", op.position_key_scale, rows));
  OE_CHECK(check.floats("position_query_scale", op.position_query_scale, rows));
  OE_CHECK(check.constant("row_of_distance", op.row_of_distance, static_cast<uint64_t>(numbers) * 2));
  const uint16_t* row = check.program.constant<uint16_t>(op.row_of_distance);
  for (int64_t i = 0; i < numbers; ++i) {
    if (row[i] >= op.positions) {
      OE_REFUSE(check, "its row_of_distance[%lld] is %u; there are %d positions", static_cast<long long>(i), row[i],
                op.positions);
    }
  }
  return OE_OK;
}

int32_t check_op(const OpCheck& check) {
  const AttentionFields op = attention_fields(check.op);
  OE_CHECK(check.in_range("heads", op.heads, 1, 4096));
  OE_CHECK(check.in_range("head_dim", op.head_dim, 1, 1024));
  const int32_t channels = op.heads * op.head_dim;
  OE_CHECK(check.buffer("query", op.query, kU8, channels));
  OE_CHECK(check.buffer("key", op.key, kS8, channels));
  OE_CHECK(check.buffer("value", op.value, kS8, channels));
  OE_CHECK(check.buffer("output", op.output, kU8 | kF32, channels));
  OE_CHECK(check.domain("output", op.output, Domain::Tokens));
  const int32_t inputs[] = {op.query, op.key, op.value};
  for (const int32_t input : inputs) {
    OE_CHECK(check.domain("input", input, Domain::Tokens));
    OE_CHECK(check.distinct("input", input, "output", op.output));
  }
  OE_CHECK(check.in_range("query_zero_point", op.query_zero_point, 0, 255));
  OE_CHECK(check.in_range("zero_point", op.zero_point, 0, 255));
  OE_CHECK(check.in_range("distances", op.distances, 0, kMaxDistances));
  OE_CHECK(check.in_range("positions", op.positions, 0, kMaxPositions));
  OE_CHECK(check.in_range("window", op.window, 0, kMaxDistances));
  if (op.positions > 0) {
    OE_CHECK(check_positions(check, op));
  } else if (op.distances > 0) {
    OE_CHECK(check.floats("bias", op.bias, int64_t{op.heads} * (2 * op.distances - 1)));
  } else if (op.bias != kAbsent) {
    OE_REFUSE(check, "it has a bias (constant %d) of no distances", op.bias);
  }
  if (op.window > 0 && op.distances > 0) OE_REFUSE(check, "it has a bias and a window of %d tokens", op.window);
  OE_CHECK(check.positive("score_scale", op.score_scale));
  return check.positive("context_scale", op.context_scale);
}

int32_t check_batch(const Op& record, const oe_batch& batch) {
  if (int64_t{batch.sequences} * attention_fields(record).heads <= INT32_MAX) return OE_OK;
  return fail(OE_INVALID_INPUT, "the batch has too many sequences (%d)", batch.sequences);
}

// ---- how it runs

// What the op says of its kernel, without the tokens of a batch.
AttentionArgs arguments(const Run& run, const AttentionFields& op) {
  AttentionArgs args = {};
  args.heads = op.heads;
  args.head_dim = op.head_dim;
  args.query_zero_point = op.query_zero_point;
  args.zero_point = op.zero_point;
  args.score_scale = op.score_scale;
  args.context_scale = op.context_scale;
  args.distances = op.distances;
  args.window = op.window;
  args.positions = op.positions;
  if (op.positions > 0) {
    args.row_of_distance = run.program.constant<uint16_t>(op.row_of_distance);
    args.position_key = run.program.constant<int8_t>(op.position_key);
    args.position_query = run.program.constant<int8_t>(op.position_query);
    args.position_key_scale = run.program.constant<float>(op.position_key_scale);
    args.position_query_scale = run.program.constant<float>(op.position_query_scale);
  } else if (op.distances > 0) {
    args.bias = run.program.constant<float>(op.bias);
  }
  return args;
}

size_t scratch(const Run& run, int32_t index) {
  return run.kernels.attention_scratch(arguments(run, attention_fields(run.op(index))), run.longest);
}

void run_batch(const Run& run, int32_t index, int32_t) {
  const AttentionFields op = attention_fields(run.op(index));
  AttentionArgs args = arguments(run, op);
  args.query = run.buffer<uint8_t>(op.query);
  args.key = run.buffer<int8_t>(op.key);
  args.value = run.buffer<int8_t>(op.value);
  args.output = run.buffer<void>(op.output);
  args.out_type = run.program.buffer(op.output).dtype;
  args.tokens = run.batch.tokens;
  args.starts = run.batch.starts;
  parallel(run.pool, run.batch.sequences * args.heads, [&](int32_t task, int32_t thread) {
    run.kernels.attention(args, task / args.heads, task % args.heads, run.scratch.of(thread));
  });
}

constexpr OpDefinition define() {
  OpDefinition op;
  op.check = check_op;
  op.check_batch = check_batch;
  op.scratch = scratch;
  op.run = run_batch;
  return op;
}

}  // namespace

const OpDefinition kAttentionDefinition = define();

}  // namespace oe
