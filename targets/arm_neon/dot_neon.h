// Dot products of four bytes with the multiplications that every ARMv8 CPU has. Included after vec_neon.h.
//
// Activations are taken minus 128 (their top bit is inverted), as in dot_by_element.h. The sum of two products fits an
// int16 (2 * 128 * 127 = 32512), so one pair of channels is multiplied, the other is multiplied and added, and only
// then does SADALP add neighbors to the int32 sums:
//
//   x [t0: c0 c1 | t1: c0 c1 | .. t7]  SMULL  w0 w1 w0 w1 ..    8 x int16, 4 tokens
//   y [t0: c2 c3 | t1: c2 c3 | .. t7]  SMLAL  w2 w3 w2 w3 ..    += , still exact
//                                      SADALP                   4 x int32 sums
//
// Bound: three instructions for 16 multiply-adds, two of which need the one multiplier of a Cortex-A72: 8 multiply-adds
// a cycle are its peak.

// 16 tokens x 4 channels: registers 0 and 1 hold channels 0 and 1 of tokens 0-7 and 8-15, registers 2 and 3 channels 2
// and 3.
struct Q16 {
  uint8x16_t v[4];
};

// Empty, before the loop over quads of columns: with two quads at a time, sums would be spilled.
#define OE_UNROLL_QUADS

constexpr int32_t kBias = 128;
OE_INLINE uint8x16_t biased(uint8x16_t x) { return veorq_u8(x, vdupq_n_u8(0x80)); }

// sum += the dot products of 16 tokens (kHalf: of the first 8) with one row; every word of `first` is w0 w1, every word
// of `second` w2 w3.
template <bool kHalf>
OE_INLINE void dot_row(I16& sum, const Q16& x, int8x16_t first, int8x16_t second) {
  OE_UNROLL for (int half = 0; half < (kHalf ? 1 : 2); ++half) {
    const int8x16_t a = vreinterpretq_s8_u8(x.v[half]), b = vreinterpretq_s8_u8(x.v[half + 2]);
    int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(first));
    int16x8_t high = vmull_high_s8(a, first);
    low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(second));
    high = vmlal_high_s8(high, b, second);
    sum.v[2 * half] = vpadalq_s16(sum.v[2 * half], low);
    sum.v[2 * half + 1] = vpadalq_s16(sum.v[2 * half + 1], high);
  }
}
// The same with row kRow of w [4 rows][4].
template <int kRow, bool kHalf = false>
OE_INLINE void dot_element(I16& sum, const Q16& x, int8x16_t w) {
  const int16x8_t words = vreinterpretq_s16_s8(w);
  dot_row<kHalf>(sum, x, vreinterpretq_s8_s16(vdupq_laneq_s16(words, 2 * kRow)),
                 vreinterpretq_s8_s16(vdupq_laneq_s16(words, 2 * kRow + 1)));
}
// The same for kRows rows.
template <int kRows, bool kHalf = false>
OE_INLINE void dot_rows(I16 (&sums)[kRows], const Q16& x, int8x16_t w) {
  dot_element<0, kHalf>(sums[0], x, w);
  if (kRows > 1) dot_element<1, kHalf>(sums[kRows > 1 ? 1 : 0], x, w);
  if (kRows > 2) dot_element<2, kHalf>(sums[kRows > 2 ? 2 : 0], x, w);
  if (kRows > 3) dot_element<3, kHalf>(sums[kRows > 3 ? 3 : 0], x, w);
}

// sums[row][token] += the dot product of the token's 4 channels and the row's 4 weights; rows are `stride` bytes apart.
template <int kRows, int kTile>
OE_INLINE void add_quad(I16 (&sums)[kRows], const Q16 (&x)[kTile], const int8_t* weights, size_t stride) {
  static_assert(kTile == 1, "four registers hold a unit");
  if (__builtin_constant_p(stride) && stride == 4) {
    dot_rows<kRows>(sums, x[0], load_together<kRows>(weights));
  } else {
    OE_UNROLL for (int r = 0; r < kRows; ++r) {
      dot_element<0>(sums[r], x[0], load_together<1>(weights + static_cast<size_t>(r) * stride));
    }
  }
}

OE_INLINE Q16 load_quad(const uint8_t* p) { OE_EACH(Q16, vld1q_u8(p + 16 * i)); }

// sum[token] += the dot product of the token's 4 channels and its own 4 signed bytes at `w`, a dword per token.
OE_INLINE I16 add_lanes(I16 sum, const Q16& x, const int8_t* w) {
  OE_UNROLL for (int half = 0; half < 2; ++half) {
    const int16x8x2_t pairs = vld2q_s16(reinterpret_cast<const int16_t*>(w + 32 * half));
    const int8x16_t first = vreinterpretq_s8_s16(pairs.val[0]), second = vreinterpretq_s8_s16(pairs.val[1]);
    const int8x16_t a = vreinterpretq_s8_u8(x.v[half]), b = vreinterpretq_s8_u8(x.v[half + 2]);
    int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(first));
    int16x8_t high = vmull_high_s8(a, first);
    low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(second));
    high = vmlal_high_s8(high, b, second);
    sum.v[2 * half] = vpadalq_s16(sum.v[2 * half], low);
    sum.v[2 * half + 1] = vpadalq_s16(sum.v[2 * half + 1], high);
  }
  return sum;
}
// The same four bytes for every token, as a Q16 holds them.
OE_INLINE Q16 splat_quad(const uint8_t* p) {
  const uint8x16_t first = vreinterpretq_u8_u16(vld1q_dup_u16(reinterpret_cast<const uint16_t*>(p)));
  const uint8x16_t second = vreinterpretq_u8_u16(vld1q_dup_u16(reinterpret_cast<const uint16_t*>(p + 2)));
  return {{first, first, second, second}};
}

// add_quad for the four quads at `x` in turn: the 16 weights of a row are contiguous and loaded once.
#define OE_HAS_ADD_FOUR_QUADS
template <int kRows>
OE_INLINE void add_four_quads(I16 (&sums)[kRows], const uint8_t* x, const int8_t* weights, size_t stride) {
  int8x16_t w[kRows];
  OE_UNROLL for (int r = 0; r < kRows; ++r) w[r] = vld1q_s8(weights + static_cast<size_t>(r) * stride);
  const Q16 x0 = load_quad(x);
  OE_UNROLL for (int r = 0; r < kRows; ++r) dot_element<0>(sums[r], x0, w[r]);
  const Q16 x1 = load_quad(x + 64);
  OE_UNROLL for (int r = 0; r < kRows; ++r) dot_element<1>(sums[r], x1, w[r]);
  const Q16 x2 = load_quad(x + 128);
  OE_UNROLL for (int r = 0; r < kRows; ++r) dot_element<2>(sums[r], x2, w[r]);
  const Q16 x3 = load_quad(x + 192);
  OE_UNROLL for (int r = 0; r < kRows; ++r) dot_element<3>(sums[r], x3, w[r]);
}

// sum[row] += the sum of the four weights in dword `row` of w.
OE_INLINE int32x4_t add_weights(int32x4_t sum, int8x16_t w) { return vpadalq_s16(sum, vpaddlq_s8(w)); }

// acc[token] += the sum of its 4 signed bytes (one dword per token)
OE_INLINE I16 add_signed_bytes(I16 acc, const int8_t* p) { OE_EACH(I16, add_weights(acc.v[i], vld1q_s8(p + 16 * i))); }

// Four channels of 16 tokens, biased already, as a Q16.
OE_INLINE Q16 interleave_rows(const uint8x16_t (&c)[4]) {
  return {{vzip1q_u8(c[0], c[1]), vzip2q_u8(c[0], c[1]), vzip1q_u8(c[2], c[3]), vzip2q_u8(c[2], c[3])}};
}

// Stores the low bytes of 4 keys x 16 queries, biased, as a Q16. Bits above 7 are ignored.
OE_INLINE uint8x16_t pair_keys(int32x4_t a0, int32x4_t b0, int32x4_t a1, int32x4_t b1) {
  const int16x8_t low = vreinterpretq_s16_s32(vsliq_n_s32(a0, b0, 8)),
                  high = vreinterpretq_s16_s32(vsliq_n_s32(a1, b1, 8));
  return biased(vreinterpretq_u8_s16(vuzp1q_s16(low, high)));
}
OE_INLINE void store_quad(uint8_t* out, I16 k0, I16 k1, I16 k2, I16 k3) {
  OE_UNROLL for (int half = 0; half < 2; ++half) {
    const int i = 2 * half;
    vst1q_u8(out + 16 * half, pair_keys(k0.v[i], k1.v[i], k0.v[i + 1], k1.v[i + 1]));
    vst1q_u8(out + 32 + 16 * half, pair_keys(k2.v[i], k3.v[i], k2.v[i + 1], k3.v[i + 1]));
  }
}

#include "interleave.h"
