// Dot products of four bytes with SDOT or USDOT by element: one weight register holds 4 rows x 4 channels, and an
// instruction multiplies 4 tokens by one of the rows. Included after vec_neon.h; the kernel file says which:
//
//   OE_USDOT         USDOT of i8mm: activations as they are
//   not defined      SDOT of dotprod, which has no unsigned by signed form: activations minus 128 (their top bit
//                    turned), and sums that start 128 times the sum of the weights higher. Exact: |x - 128| <= 128.

struct Q16 {  // 16 tokens x 4 channels, one dword per token
  uint8x16_t v[4];
};

// Of the loop over quads of columns: two at a time have registers enough.
#define OE_UNROLL_QUADS OE_UNROLL_2

#if defined(OE_USDOT)
constexpr int32_t kBias = 0;
OE_INLINE uint8x16_t biased(uint8x16_t x) { return x; }
template <int kLane>
OE_INLINE int32x4_t dot(int32x4_t sum, uint8x16_t x, int8x16_t w) {
  return vusdotq_laneq_s32(sum, x, w, kLane);
}
#else
constexpr int32_t kBias = 128;
OE_INLINE uint8x16_t biased(uint8x16_t x) { return veorq_u8(x, vdupq_n_u8(0x80)); }
template <int kLane>
OE_INLINE int32x4_t dot(int32x4_t sum, uint8x16_t x, int8x16_t w) {
  return vdotq_laneq_s32(sum, vreinterpretq_s8_u8(x), w, kLane);
}
#endif

template <int kLane>
OE_INLINE void dot_element(I16& sum, const Q16& x, int8x16_t w) {
  OE_UNROLL for (int i = 0; i < 4; ++i) sum.v[i] = dot<kLane>(sum.v[i], x.v[i], w);
}
template <int kRows>
OE_INLINE void dot_rows(I16 (&sums)[kRows], const Q16& x, int8x16_t w) {
  dot_element<0>(sums[0], x, w);
  if (kRows > 1) dot_element<1>(sums[kRows > 1 ? 1 : 0], x, w);
  if (kRows > 2) dot_element<2>(sums[kRows > 2 ? 2 : 0], x, w);
  if (kRows > 3) dot_element<3>(sums[kRows > 3 ? 3 : 0], x, w);
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

// The same for four quads in turn, at `x`: a row's 16 weights lie together and are loaded once.
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

// The sums of four rows' weights, four of each: sum[row] += the sum of the bytes of dword `row`.
OE_INLINE int32x4_t add_weights(int32x4_t sum, int8x16_t w) { return vdotq_s32(sum, w, vdupq_n_s8(1)); }

// acc[token] += the sum of its 4 signed bytes
OE_INLINE I16 add_signed_bytes(I16 acc, const int8_t* p) {
  OE_EACH(I16, add_weights(acc.v[i], vld1q_s8(p + 16 * i)));
}

// Four channels of 16 tokens, each biased, to one dword per token.
OE_INLINE Q16 interleave_rows(const uint8x16_t (&c)[4]) {
  const uint16x8_t low_a = vreinterpretq_u16_u8(vzip1q_u8(c[0], c[1])), high_a = vreinterpretq_u16_u8(vzip2q_u8(c[0], c[1]));
  const uint16x8_t low_b = vreinterpretq_u16_u8(vzip1q_u8(c[2], c[3])), high_b = vreinterpretq_u16_u8(vzip2q_u8(c[2], c[3]));
  return {{vreinterpretq_u8_u16(vzip1q_u16(low_a, low_b)), vreinterpretq_u8_u16(vzip2q_u16(low_a, low_b)),
           vreinterpretq_u8_u16(vzip1q_u16(high_a, high_b)), vreinterpretq_u8_u16(vzip2q_u16(high_a, high_b))}};
}

// The low bytes of 4 keys x 16 queries, biased, to one dword per query. Bits above 7 are ignored.
OE_INLINE void store_quad(uint8_t* out, I16 k0, I16 k1, I16 k2, I16 k3) {
  OE_UNROLL for (int i = 0; i < 4; ++i) {
    const int32x4_t quad = vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(k0.v[i], k1.v[i], 8), k2.v[i], 16), k3.v[i], 24);
    vst1q_u8(out + 16 * i, biased(vreinterpretq_u8_s32(quad)));
  }
}

#include "interleave.h"
