// Quantization of floats to U8 with one scale for all tokens, or one per token (docs/reference/numerics.md,
// "Quantization").
#include "functions.h"
#include "scalar.h"

namespace oe {
namespace generic {

void quantize(const QuantizeArgs& args, int32_t begin, int32_t end) {
  for (int32_t c = 0; c < args.channels; ++c) {
    for (int32_t t = begin; t < end; ++t) {
      const size_t at = element(args.tokens, args.channels, c, t);
      const int32_t q = quantize_value(args.input[at] * args.inv_scale, args.zero_point, 0, 255);
      args.output[at] = static_cast<uint8_t>(q);
    }
  }
}

void quantize_dynamic(const QuantizeArgs& args, int32_t begin, int32_t end) {
  for (int32_t t = begin; t < end; ++t) {
    const auto at = [&args, t](int32_t c) {
      return element(args.tokens, args.channels, c, t);
    };

    float lo = 0.0f, hi = 0.0f;
    for (int32_t c = 0; c < args.channels; ++c) {
      lo = min_of(args.input[at(c)], lo);
      hi = max_of(args.input[at(c)], hi);
    }
    const float range = hi - lo;
    float scale = 1.0f, inv = 0.0f;
    int32_t zero_point = 0;
    if (range > 0.0f) {
      scale = range * (1.0f / 255.0f);
      inv = 255.0f / range;
      zero_point = round_even(min_of(max_of((0.0f - lo) * inv, 0.0f), 255.0f));
    }
    args.params[element(args.tokens, 2, 0, t)] = scale;
    args.params[element(args.tokens, 2, 1, t)] = static_cast<float>(zero_point);
    for (int32_t c = 0; c < args.channels; ++c) {
      args.output[at(c)] = static_cast<uint8_t>(quantize_value(args.input[at(c)] * inv, zero_point, 0, 255));
    }
  }
}

}  // namespace generic
}  // namespace oe
