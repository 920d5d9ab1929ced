// SelectFirst and MeanPool: the tokens of each sequence to one vector of channels.
#include "exec/parallel.h"
#include "ops/definition.h"

namespace oe {
namespace {

// ---- what they accept

int32_t check_common(const OpCheck& check, int32_t input, int32_t output, int32_t channels) {
  OE_CHECK(check.channels(channels));
  OE_CHECK(check.buffer("input", input, kF32, channels));
  OE_CHECK(check.buffer("output", output, kF32, channels));
  OE_CHECK(check.domain("input", input, Domain::Tokens));
  OE_CHECK(check.domain("output", output, Domain::Sequences));
  return check.distinct("input", input, "output", output);
}

int32_t check_select_first(const OpCheck& check) {
  const SelectFirstFields op = select_first_fields(check.op);
  return check_common(check, op.input, op.output, op.channels);
}

int32_t check_mean_pool(const OpCheck& check) {
  const MeanPoolFields op = mean_pool_fields(check.op);
  return check_common(check, op.input, op.output, op.channels);
}

// ---- how they run

void run_batch(const Run& run, PoolFn kernel, int32_t input, int32_t output, int32_t channels) {
  PoolArgs args = {};
  args.input = run.buffer<float>(input);
  args.output = run.buffer<float>(output);
  args.starts = run.batch.starts;
  args.tokens = run.batch.tokens;
  args.sequences = run.batch.sequences;
  args.channels = channels;
  parallel(run.pool, args.sequences, [&](int32_t sequence, int32_t) { kernel(args, sequence); });
}

void run_select_first(const Run& run, int32_t index, int32_t) {
  const SelectFirstFields op = select_first_fields(run.op(index));
  run_batch(run, run.kernels.select_first, op.input, op.output, op.channels);
}

void run_mean_pool(const Run& run, int32_t index, int32_t) {
  const MeanPoolFields op = mean_pool_fields(run.op(index));
  run_batch(run, run.kernels.mean_pool, op.input, op.output, op.channels);
}

constexpr OpDefinition define(decltype(OpDefinition::check) check, decltype(OpDefinition::run) run) {
  OpDefinition op;
  op.check = check;
  op.run = run;
  return op;
}

}  // namespace

const OpDefinition kSelectFirstDefinition = define(check_select_first, run_select_first);
const OpDefinition kMeanPoolDefinition = define(check_mean_pool, run_mean_pool);

}  // namespace oe
