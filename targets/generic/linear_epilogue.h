// The epilogue of a linear (docs/reference/numerics.md, "Linear"), one token at a time: for the scalar kernels, and for
// CPUs whose vectors do not keep to IEEE-754 (armhf).
#ifndef OBERT_EDGE_GENERIC_LINEAR_EPILOGUE_H
#define OBERT_EDGE_GENERIC_LINEAR_EPILOGUE_H

#include "functions.h"

namespace oe {
namespace generic {

// Computes one output channel from its sums, for tokens [begin, end) of one panel; sums[0] belongs to token `begin`.
static inline void write_channel(const LinearArgs& args, int32_t panel, uint32_t channel, const int32_t* sums,
                                 int32_t begin, int32_t end) {
  const int32_t width = panel_width(args.tokens, panel);
  const size_t at = element(args.tokens, args.n, static_cast<int32_t>(channel), panel * kPanel);
  const float* params = args.params ? args.params + element(args.tokens, 2, 0, panel * kPanel) : nullptr;
  for (int32_t t = begin; t < end; ++t) {
    const int32_t sum = sums[t - begin];
    float v;
    if (params) {
      const float token_scale = params[t];
      const int32_t token_zero_point = static_cast<int32_t>(params[width + t]);
      v = static_cast<float>(wrap_sub(sum, wrap_mul(token_zero_point, args.correction[channel]))) * token_scale;
    } else {
      v = static_cast<float>(wrap_add(sum, args.correction[channel]));
    }
    float y = fmaf(v, args.scale[channel], args.bias[channel]);
    y = activate(y, args.activation);
    if (args.residual) y = y + args.residual[at + static_cast<size_t>(t)];
    const size_t out = at + static_cast<size_t>(t);
    if (args.out_type == DType::F32) {
      static_cast<float*>(args.output)[out] = y;
    } else {
      const int32_t q = quantize_value(y * args.inv_scale, args.zero_point, args.lo, args.hi);
      static_cast<uint8_t*>(args.output)[out] = static_cast<uint8_t>(q);
    }
  }
}

}  // namespace generic
}  // namespace oe
#endif
