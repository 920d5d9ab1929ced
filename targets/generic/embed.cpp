// Sum of the word, position and token-type rows (docs/numerics.md, "Embedding, pooling").
#include "functions.h"
#include "scalar.h"

namespace oe {
namespace generic {

void embed(const EmbedArgs& args, int32_t begin, int32_t end) {
  const size_t channels = static_cast<size_t>(args.channels);
  for (int32_t t = begin; t < end; ++t) {
    const bool real = t < args.columns;
    const size_t word = real ? static_cast<size_t>(args.ids[t]) : 0;
    const size_t position = real ? static_cast<size_t>(args.positions[t]) : 0;
    const size_t type = real && args.token_types ? static_cast<size_t>(args.token_types[t]) : 0;
    for (size_t c = 0; c < channels; ++c) {
      float x = 0.0f;
      if (real) {
        x = static_cast<float>(args.word[word * channels + c]) * args.word_scale[word];
        x = fmaf(static_cast<float>(args.position[position * channels + c]), args.position_scale[position], x);
        if (args.token_type) {
          x = fmaf(static_cast<float>(args.token_type[type * channels + c]), args.token_type_scale[type], x);
        }
      }
      args.output[element(args.columns, args.channels, static_cast<int32_t>(c), t)] = x;
    }
  }
}

}  // namespace generic
}  // namespace oe
