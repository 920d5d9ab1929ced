// Sum of the word, position and token-type rows (docs/reference/numerics.md, "Embedding, pooling").
#include "functions.h"
#include "scalar.h"

namespace oe {
namespace generic {
namespace {

// Channel `c` of an INT4 row: its half of a byte times the scale of its group (kInt4Group in kernels.h has the layout).
float int4_value(const EmbedArgs& args, size_t row, int32_t c) {
  const size_t groups = static_cast<size_t>(groups_of(args.channels));
  const size_t group = row * groups + static_cast<size_t>(c / kInt4Group);
  const int32_t within = c % kInt4Group;
  const int32_t byte = args.word[group * kInt4GroupBytes + static_cast<size_t>(within % kInt4GroupBytes)];
  const int32_t half = (within < kInt4GroupBytes ? byte : byte >> 4) & 15;
  const float scale = static_cast<float>(args.word_group_scale[group]) * args.word_scale[row];
  return static_cast<float>(half < 8 ? half : half - 16) * scale;
}

float word_value(const EmbedArgs& args, size_t row, int32_t c) {
  if (args.word_group_scale) return int4_value(args, row, c);
  const size_t at = row * static_cast<size_t>(args.channels) + static_cast<size_t>(c);
  return static_cast<float>(args.word[at]) * args.word_scale[row];
}

}  // namespace

void embed(const EmbedArgs& args, int32_t begin, int32_t end) {
  const size_t channels = static_cast<size_t>(args.channels);
  for (int32_t t = begin; t < end; ++t) {
    const bool real = t < args.tokens;
    const size_t word = real ? static_cast<size_t>(args.ids[t]) : 0;
    const size_t position = real ? static_cast<size_t>(args.positions[t]) : 0;
    const size_t type = real && args.token_types ? static_cast<size_t>(args.token_types[t]) : 0;
    for (size_t c = 0; c < channels; ++c) {
      float x = 0.0f;
      if (real) {
        x = word_value(args, word, static_cast<int32_t>(c));
        if (args.position) {
          x = fmaf(static_cast<float>(args.position[position * channels + c]), args.position_scale[position], x);
        }
        if (args.token_type) {
          x = fmaf(static_cast<float>(args.token_type[type * channels + c]), args.token_type_scale[type], x);
        }
      }
      args.output[element(args.tokens, args.channels, static_cast<int32_t>(c), t)] = x;
    }
  }
}

}  // namespace generic
}  // namespace oe
