// LayerNorm, RMS norm, or neither, of each token over its channels (docs/reference/numerics.md, "LayerNorm").
#include "functions.h"
#include "scalar.h"

namespace oe {
namespace generic {

void layer_norm(const LayerNormArgs& args, int32_t begin, int32_t end) {
  const float inv = 1.0f / static_cast<float>(args.channels);
  for (int32_t t = begin; t < end; ++t) {
    const auto at = [&args, t](int32_t c) {
      return element(args.tokens, args.channels, c, t);
    };

    float mean = 0.0f;
    if (args.kind == NormKind::Layer) {
      float s[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      for (int32_t c = 0; c < args.channels; ++c) s[c % 4] = s[c % 4] + args.input[at(c)];
      mean = ((s[0] + s[1]) + (s[2] + s[3])) * inv;
    }

    float rstd = 1.0f;
    if (args.kind != NormKind::None) {
      float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      for (int32_t c = 0; c < args.channels; ++c) {
        const float d = args.input[at(c)] - mean;
        v[c % 4] = fmaf(d, d, v[c % 4]);
      }
      const float variance = ((v[0] + v[1]) + (v[2] + v[3])) * inv;
      rstd = 1.0f / sqrtf(variance + args.epsilon);
    }

    for (int32_t c = 0; c < args.channels; ++c) {
      const float d = args.input[at(c)] - mean;
      const float y = fmaf(d * rstd, args.gamma[c], args.beta[c]);
      if (args.output) args.output[at(c)] = y;
      if (args.quantized) {
        args.quantized[at(c)] = static_cast<uint8_t>(quantize_value(y * args.inv_scale, args.zero_point, 0, 255));
      }
    }
  }
}

}  // namespace generic
}  // namespace oe
