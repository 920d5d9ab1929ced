// Pooling of the tokens of a sequence to their mean or to the first (docs/reference/numerics.md, "Embedding, pooling").
#include "functions.h"
#include "scalar.h"

namespace oe {
namespace generic {

void mean_pool(const PoolArgs& args, int32_t sequence) {
  const int32_t begin = args.starts[sequence], end = args.starts[sequence + 1];
  const float inv = 1.0f / static_cast<float>(end - begin);
  for (int32_t c = 0; c < args.channels; ++c) {
    float s[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int32_t t = begin; t < end; ++t) {
      float& partial = s[(t - begin) % 4];
      partial = partial + args.input[element(args.tokens, args.channels, c, t)];
    }
    args.output[element(args.sequences, args.channels, c, sequence)] = ((s[0] + s[1]) + (s[2] + s[3])) * inv;
  }
}

void select_first(const PoolArgs& args, int32_t sequence) {
  const int32_t first = args.starts[sequence];
  for (int32_t c = 0; c < args.channels; ++c) {
    args.output[element(args.sequences, args.channels, c, sequence)] =
        args.input[element(args.tokens, args.channels, c, first)];
  }
}

}  // namespace generic
}  // namespace oe
