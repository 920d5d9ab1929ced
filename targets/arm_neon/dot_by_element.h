// Dot products of four bytes with SDOT or USDOT by element. Included after vec_neon.h.
//
//   x   [t0: c0 c1 c2 c3 | t1: .. | t2: .. | t3: ..]       4 tokens
//   w   [r0: w0 w1 w2 w3 | r1: .. | r2: .. | r3: ..]       4 rows
//   SDOT sum, x, w[r]:  sum[t] += x[t] . w[r]              16 multiply-adds, 4 tokens by one row
//
// The kernel file chooses the instruction:
//   OE_USDOT      USDOT of i8mm takes activations as they are.
//   not defined   SDOT of dotprod multiplies signed bytes only. Activations are taken minus 128 (their top bit is
//                 inverted), and every sum starts 128 times the sum of its weights higher, which is exact.
//
// Bound: the SDOTs, 32 multiply-adds a cycle on the two vector pipes of a Cortex-A76, which zips share.

struct Q16 {  // 16 tokens x 4 channels, one dword per token
  uint8x16_t v[4];
};

// Stands before the loop over quads of columns: there are registers enough for two at a time.
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

// sum += the dot products of 16 tokens (kHalf: of the first 8) with row kLane of w.
template <int kLane, bool kHalf = false>
OE_INLINE void dot_element(I16& sum, const Q16& x, int8x16_t w) {
  OE_UNROLL for (int i = 0; i < (kHalf ? 2 : 4); ++i) sum.v[i] = dot<kLane>(sum.v[i], x.v[i], w);
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

// sum[token] += the dot product of the token's 4 channels and its own 4 signed bytes at `w`.
OE_INLINE I16 add_lanes(I16 sum, const Q16& x, const int8_t* w) {
  OE_UNROLL for (int i = 0; i < 4; ++i) {
#if defined(OE_USDOT)
    sum.v[i] = vusdotq_s32(sum.v[i], x.v[i], vld1q_s8(w + 16 * i));
#else
    sum.v[i] = vdotq_s32(sum.v[i], vreinterpretq_s8_u8(x.v[i]), vld1q_s8(w + 16 * i));
#endif
  }
  return sum;
}
// The same four bytes for every token, as a Q16 holds them.
OE_INLINE Q16 splat_quad(const uint8_t* p) {
  const uint8x16_t four = vreinterpretq_u8_u32(vld1q_dup_u32(reinterpret_cast<const uint32_t*>(p)));
  return {{four, four, four, four}};
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
OE_INLINE int32x4_t add_weights(int32x4_t sum, int8x16_t w) { return vdotq_s32(sum, w, vdupq_n_s8(1)); }

// acc[token] += the sum of its 4 signed bytes
OE_INLINE I16 add_signed_bytes(I16 acc, const int8_t* p) { OE_EACH(I16, add_weights(acc.v[i], vld1q_s8(p + 16 * i))); }

// Four channels of 16 tokens, biased already, to one dword per token.
OE_INLINE Q16 interleave_rows(const uint8x16_t (&c)[4]) {
  const uint16x8_t low_a = vreinterpretq_u16_u8(vzip1q_u8(c[0], c[1])),
                   high_a = vreinterpretq_u16_u8(vzip2q_u8(c[0], c[1]));
  const uint16x8_t low_b = vreinterpretq_u16_u8(vzip1q_u8(c[2], c[3])),
                   high_b = vreinterpretq_u16_u8(vzip2q_u8(c[2], c[3]));
  return {{vreinterpretq_u8_u16(vzip1q_u16(low_a, low_b)), vreinterpretq_u8_u16(vzip2q_u16(low_a, low_b)),
           vreinterpretq_u8_u16(vzip1q_u16(high_a, high_b)), vreinterpretq_u8_u16(vzip2q_u16(high_a, high_b))}};
}

// Stores the low bytes of 4 keys x 16 queries, biased, as one dword per query. Bits above 7 are ignored.
OE_INLINE void store_quad(uint8_t* out, I16 k0, I16 k1, I16 k2, I16 k3) {
  OE_UNROLL for (int i = 0; i < 4; ++i) {
    const int32x4_t quad = vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(k0.v[i], k1.v[i], 8), k2.v[i], 16), k3.v[i], 24);
    vst1q_u8(out + 16 * i, biased(vreinterpretq_u8_s32(quad)));
  }
}

#include "interleave.h"
