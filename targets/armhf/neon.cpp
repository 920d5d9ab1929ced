// NEON of ARMv7: linears in all formats (docs/reference/numerics.md, "Linear"); attention is in attention.cpp, and
// everything else is the scalar kernels of targets/generic.
//
// The float vectors of ARMv7 flush denormals to zero, which docs/reference/numerics.md does not allow: the epilogue is
// computed by VFP, one token at a time. Integers are exact. A tile is 8 tokens by up to 4 rows (tile.h). Channels are
// multiplied one at a time, so the columns of a quad need not be interleaved:
//
//   VLD1.8 + VMOVL.U8   8 tokens of channel c       sums[row][0..3] += x.low  * w[row][c]    VMLAL.S16 by element
//                                                   sums[row][4..7] += x.high * w[row][c]
//
// Bound: a quad with 4 rows and 8 tokens is 32 VMLAL and some 19 other instructions for 128 multiply-adds.
#include "attention.h"
#include "generic/linear_epilogue.h"
#include "generic/scalar.h"
#include "tile.h"

namespace oe {
namespace {

using armhf::add_lanes;
using armhf::kTile;
using armhf::load_eight;
using armhf::TileSums;

// sums += the four channels at `x` times the weights [kRows][4].
template <int kRows>
OE_INLINE void add_quad(TileSums<kRows>& sums, const uint8_t* const (&x)[4], const int8_t* weights) {
  int16x4_t w[kRows];
  if (kRows == 1) {
    int8_t eight[8] = {};
    __builtin_memcpy(eight, weights, 4);
    w[0] = vget_low_s16(vmovl_s8(vld1_s8(eight)));
  }
  OE_UNROLL for (int r = 0; r + 1 < kRows; r += 2) {
    const int16x8_t pair = vmovl_s8(vreinterpret_s8_u8(load_eight(reinterpret_cast<const uint8_t*>(weights) + 4 * r)));
    w[r] = vget_low_s16(pair);
    w[r + 1] = vget_high_s16(pair);
  }
  add_lanes<kRows, 0>(sums, x[0], w);
  add_lanes<kRows, 1>(sums, x[1], w);
  add_lanes<kRows, 2>(sums, x[2], w);
  add_lanes<kRows, 3>(sums, x[3], w);
}

alignas(16) constexpr uint8_t kZeros[kTile] = {};

// A range of groups of kRows rows for one panel. channel_of(quad, first quad of the group, i) is the i-th channel of a
// quad.
template <int kRows, bool kDense, class ChannelOf>
OE_INLINE void linear(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                      const ChannelOf& channel_of) {
  const size_t width = static_cast<size_t>(panel_width(args.tokens, panel));
  const uint8_t* input = args.input + generic::element(args.tokens, args.k, 0, panel * kPanel);
  const size_t dense_quads = (static_cast<size_t>(args.k) + 3) / 4;
  const int rest = args.k % 4;
  for (int32_t group = group_begin; group < group_end; ++group) {
    const uint32_t* rows = args.rows + static_cast<size_t>(group) * kRows;
    const size_t first = kDense ? static_cast<size_t>(group) * dense_quads : args.offsets[group];
    const size_t last = kDense ? first + static_cast<size_t>(args.k) / 4 : args.offsets[group + 1];
    for (int32_t token = 0; token < static_cast<int32_t>(width); token += kTile) {
      // A tile of padding alone keeps sums of 0, which are as good as any.
      const size_t end = panel * kPanel + token < args.tokens ? last : first;
      TileSums<kRows> sums;
      OE_UNROLL for (int r = 0; r < kRows; ++r) sums.low[r] = sums.high[r] = vdupq_n_s32(0);
      const int8_t* weights = args.weights + first * 4 * kRows;
      const uint8_t* x[4];
      for (size_t quad = first; quad < end; ++quad, weights += 4 * kRows) {
        OE_UNROLL for (int i = 0; i < 4; ++i) x[i] = input + channel_of(quad, first, i) * width + token;
        add_quad<kRows>(sums, x, weights);
      }
      if (kDense && rest > 0 && end == last) {  // the channels beyond the last do not exist, and their weights are zero
        OE_UNROLL for (int i = 0; i < 4; ++i) {
          x[i] = i < rest ? input + channel_of(last, first, i) * width + token : kZeros;
        }
        add_quad<kRows>(sums, x, weights);
      }
      OE_UNROLL for (int r = 0; r < kRows; ++r) {
        if (rows[r] == kPadRow) continue;
        int32_t tile[kTile];
        vst1q_s32(tile, sums.low[r]);
        vst1q_s32(tile + 4, sums.high[r]);
        generic::write_channel(args, panel, rows[r], tile, token, token + kTile);
      }
    }
  }
}

template <int kRows>
void linear_row_gather(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                       const LinearScratch&) {
  linear<kRows, false>(args, panel, group_begin, group_end, [&](size_t quad, size_t, int i) OE_INLINE_LAMBDA {
    return static_cast<size_t>(args.columns[quad * 4 + static_cast<size_t>(i)]);
  });
}

void linear_dense_4(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                    const LinearScratch&) {
  linear<4, true>(args, panel, group_begin, group_end, [](size_t quad, size_t first, int i) OE_INLINE_LAMBDA {
    return (quad - first) * 4 + static_cast<size_t>(i);
  });
}

void linear_block_1x4(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                      const LinearScratch&) {
  linear<1, false>(args, panel, group_begin, group_end, [&](size_t quad, size_t, int i) OE_INLINE_LAMBDA {
    return static_cast<size_t>(args.columns[quad]) + static_cast<size_t>(i);
  });
}

}  // namespace

extern const Implementation kNeonV7;
const Implementation kNeonV7 = {
    "neon",
    Records::None,
    0,
    {nullptr, linear_row_gather<1>, linear_row_gather<2>, linear_row_gather<4>, linear_dense_4, linear_block_1x4},
    armhf::attention,
    generic::layer_norm,
    generic::quantize,
    generic::quantize_dynamic,
    generic::rotate,
    generic::multiply,
    generic::embed,
    generic::mean_pool,
    generic::select_first,
    generic::linear_scratch,
    armhf::attention_scratch,
};

}  // namespace oe
