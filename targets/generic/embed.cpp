// Sum of the word, position and token-type rows (docs/reference/numerics.md, "Embedding, pooling").
#include "functions.h"
#include "scalar.h"

namespace oe {
namespace generic {
namespace {

// Channel `c` of an INT4 row: its half of a byte times the scale of its group (kInt4Group in kernels.h has the layout).
float int4_value(const EmbedArgs& args, size_t row, int32_t c) {
  const size_t groups = static_cast<size_t>(groups_of(row_width(args)));
  const size_t group = row * groups + static_cast<size_t>(c / kInt4Group);
  const int32_t within = c % kInt4Group;
  const int32_t byte = args.word[group * kInt4GroupBytes + static_cast<size_t>(within % kInt4GroupBytes)];
  const int32_t half = (within < kInt4GroupBytes ? byte : byte >> 4) & 15;
  const float scale = static_cast<float>(args.word_group_scale[group]) * args.word_scale[row];
  return static_cast<float>(half < 8 ? half : half - 16) * scale;
}

float word_value(const EmbedArgs& args, size_t row, int32_t c) {
  if (args.word_group_scale) return int4_value(args, row, c);
  const size_t at = row * static_cast<size_t>(row_width(args)) + static_cast<size_t>(c);
  return static_cast<float>(args.word[at]) * args.word_scale[row];
}

// Channel `c` of a token's word rows: its own row, or those of the token after, of the token and of the one before it.
float word_part(const EmbedArgs& args, int32_t token, int32_t c) {
  if (!args.neighbors) return word_value(args, static_cast<size_t>(args.ids[token]), c);
  const int32_t width = row_width(args);
  const int32_t id = id_beside(args, token, 1 - c / width);
  return id < 0 ? 0.0f : word_value(args, static_cast<size_t>(id), c % width);
}

// Adds a value of a row to a sum, of which it may be the first.
void add(float& sum, bool& first, int8_t value, float scale) {
  sum = first ? static_cast<float>(value) * scale : fmaf(static_cast<float>(value), scale, sum);
  first = false;
}

}  // namespace

void embed(const EmbedArgs& args, int32_t begin, int32_t end) {
  const size_t channels = static_cast<size_t>(args.channels);
  for (int32_t t = begin; t < end; ++t) {
    const bool real = t < args.tokens;
    const size_t position = real ? static_cast<size_t>(args.positions[t]) : 0;
    const size_t type = real && args.token_types ? static_cast<size_t>(args.token_types[t]) : 0;
    for (size_t c = 0; c < channels; ++c) {
      float x = 0.0f;
      if (real) {
        bool first = args.word == nullptr;
        if (args.word) x = word_part(args, t, static_cast<int32_t>(c));
        if (args.position) add(x, first, args.position[position * channels + c], args.position_scale[position]);
        if (args.token_type) add(x, first, args.token_type[type * channels + c], args.token_type_scale[type]);
      }
      args.output[element(args.tokens, args.channels, static_cast<int32_t>(c), t)] = x;
    }
  }
}

}  // namespace generic
}  // namespace oe
