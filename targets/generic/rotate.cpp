// Rotation of pairs of channels by the token's position, and the product of two values (docs/reference/numerics.md,
// "Rotation and product").
#include "functions.h"
#include "scalar.h"

namespace oe {
namespace generic {

void rotate(const RotateArgs& args, int32_t begin, int32_t end) {
  const int32_t half = args.head_dim / 2, channels = args.heads * args.head_dim;
  const auto put = [&args, channels](int32_t c, int32_t t, float y) {
    const int32_t q = quantize_value(y * args.inv_scale, args.zero_point, args.lo, args.hi);
    static_cast<uint8_t*>(args.output)[element(args.tokens, channels, c, t)] = static_cast<uint8_t>(q);
  };
  for (int32_t t = begin; t < end; ++t) {
    const size_t row = static_cast<size_t>(t < args.tokens ? args.positions[t] : 0) * static_cast<size_t>(half);
    for (int32_t c = 0; c < channels; c += args.head_dim) {
      for (int32_t d = 0; d < half; ++d) {
        const float cosine = args.cosine[row + static_cast<size_t>(d)], sine = args.sine[row + static_cast<size_t>(d)];
        const float first = args.input[element(args.tokens, channels, c + d, t)];
        const float second = args.input[element(args.tokens, channels, c + half + d, t)];
        put(c + d, t, fmaf(first, cosine, second * (0.0f - sine)));
        put(c + half + d, t, fmaf(second, cosine, first * sine));
      }
    }
  }
}

void multiply(const MultiplyArgs& args, int32_t begin, int32_t end) {
  for (int32_t c = 0; c < args.channels; ++c) {
    for (int32_t t = begin; t < end; ++t) {
      const size_t at = element(args.tokens, args.channels, c, t);
      const float y = args.left[at] * args.right[at];
      if (args.out_type == DType::F32) {
        static_cast<float*>(args.output)[at] = y;
      } else {
        const int32_t q = quantize_value(y * args.inv_scale, args.zero_point, 0, 255);
        static_cast<uint8_t*>(args.output)[at] = static_cast<uint8_t>(q);
      }
    }
  }
}

}  // namespace generic
}  // namespace oe
