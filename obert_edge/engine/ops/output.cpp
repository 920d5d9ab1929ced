// Output: a result of the model, from panels to the caller's row-major array.
#include "exec/parallel.h"
#include "ops/definition.h"

namespace oe {
namespace {

// ---- what it accepts

int32_t check_op(const OpCheck& check) {
  const OutputFields op = output_fields(check.op);
  OE_CHECK(check.channels(op.channels));
  return check.buffer("input", op.input, kF32, op.channels);
}

// ---- how it runs

// Which of the program's outputs an op is.
int32_t number_of(const Program& program, int32_t index) {
  int32_t first = 0, last = static_cast<int32_t>(program.outputs.size()) - 1;
  while (first < last) {
    const int32_t middle = (first + last) / 2;
    if (program.outputs[static_cast<size_t>(middle)] < index) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  return first;
}

void run_batch(const Run& run, int32_t index, int32_t) {
  const OutputFields op = output_fields(run.op(index));
  const int32_t tokens = run.tokens_of(op.input);
  const size_t channels = static_cast<size_t>(op.channels);
  const float* source = run.buffer<float>(op.input);
  float* destination = run.outputs[number_of(run.program, index)];
  parallel_tokens(run.pool, tokens, kStep, [&](int32_t begin, int32_t end) {
    constexpr size_t kBlock = 16;  // channels, so that both sides stay in whole cache lines
    const int32_t panel = begin / kPanel;
    const size_t width = static_cast<size_t>(panel_width(tokens, panel));
    const float* rows = source + static_cast<size_t>(panel) * kPanel * channels + begin % kPanel;
    const int32_t real = end < tokens ? end : tokens;
    for (size_t first = 0; first < channels; first += kBlock) {
      const size_t last = first + kBlock < channels ? first + kBlock : channels;
      for (int32_t t = begin; t < real; ++t) {
        float* out = destination + static_cast<size_t>(t) * channels;
        for (size_t c = first; c < last; ++c) out[c] = rows[c * width + static_cast<size_t>(t - begin)];
      }
    }
  });
}

constexpr OpDefinition define() {
  OpDefinition op;
  op.check = check_op;
  op.run = run_batch;
  op.runs_alone = false;  // it writes to an array of oe_model_run
  return op;
}

}  // namespace

const OpDefinition kOutputDefinition = define();

}  // namespace oe
