// 128-bit NEON vectors: 16 tokens are four registers. Included inside an anonymous namespace by a kernel file; the
// interface is described in obert_edge/engine/simd/README.md. The dot products of bytes are in dot_neon.h,
// dot_by_element.h and dot_by_matrix.h, one of which the kernel file includes next.
//
//   F16, I16   [t0 .. t3] [t4 .. t7] [t8 .. t11] [t12 .. t15]    the sums of 4 rows x 16 tokens are 16 of 32 registers

struct F16 {
  float32x4_t v[4];  // tokens 0-3, 4-7, 8-11, 12-15
};
struct I16 {
  int32x4_t v[4];
};

// The body of a function that returns a Type: one instruction for each of its four registers, which `i` counts.
#define OE_EACH(Type, expression)                              \
  Type out;                                                    \
  OE_UNROLL for (int i = 0; i < 4; ++i) out.v[i] = expression; \
  return out

OE_INLINE F16 load(const float* p) { OE_EACH(F16, vld1q_f32(p + 4 * i)); }
OE_INLINE void store(float* p, F16 x) { OE_UNROLL for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.v[i]); }
OE_INLINE F16 splat(float x) { OE_EACH(F16, vdupq_n_f32(x)); }
OE_INLINE F16 operator+(F16 x, F16 y) { OE_EACH(F16, vaddq_f32(x.v[i], y.v[i])); }
OE_INLINE F16 operator-(F16 x, F16 y) { OE_EACH(F16, vsubq_f32(x.v[i], y.v[i])); }
OE_INLINE F16 operator*(F16 x, F16 y) { OE_EACH(F16, vmulq_f32(x.v[i], y.v[i])); }
OE_INLINE F16 operator/(F16 x, F16 y) { OE_EACH(F16, vdivq_f32(x.v[i], y.v[i])); }
OE_INLINE F16 fma(F16 x, F16 y, F16 z) { OE_EACH(F16, vfmaq_f32(z.v[i], x.v[i], y.v[i])); }
OE_INLINE F16 sqrt(F16 x) { OE_EACH(F16, vsqrtq_f32(x.v[i])); }
OE_INLINE F16 abs(F16 x) { OE_EACH(F16, vabsq_f32(x.v[i])); }
// FMAXNM and FMINNM give the number of a number and a NaN. That is x > y ? x : y also for a NaN in x, because y is
// never a NaN where the kernels call these.
OE_INLINE F16 max(F16 x, F16 y) { OE_EACH(F16, vmaxnmq_f32(x.v[i], y.v[i])); }
OE_INLINE F16 min(F16 x, F16 y) { OE_EACH(F16, vminnmq_f32(x.v[i], y.v[i])); }
OE_INLINE F16 min_magnitude(F16 x, F16 limit) { return min(abs(x), limit); }
// x - round(x), exactly, for |x| < 2^22
OE_INLINE F16 fraction(F16 x) { OE_EACH(F16, vsubq_f32(x.v[i], vrndnq_f32(x.v[i]))); }
OE_INLINE F16 copysign(F16 magnitude, F16 x) {
  const uint32x4_t sign = vdupq_n_u32(0x80000000u);
  OE_EACH(F16, vbslq_f32(sign, x.v[i], magnitude.v[i]));
}
// y where x > 0, else otherwise.
OE_INLINE F16 if_positive(F16 x, F16 otherwise, F16 y) {
  OE_EACH(F16, vbslq_f32(vcgtzq_f32(x.v[i]), y.v[i], otherwise.v[i]));
}

OE_INLINE I16 load(const int32_t* p) { OE_EACH(I16, vld1q_s32(p + 4 * i)); }
OE_INLINE void store(int32_t* p, I16 x) { OE_UNROLL for (int i = 0; i < 4; ++i) vst1q_s32(p + 4 * i, x.v[i]); }
OE_INLINE I16 splat(int32_t x) { OE_EACH(I16, vdupq_n_s32(x)); }
OE_INLINE I16 operator+(I16 x, I16 y) { OE_EACH(I16, vaddq_s32(x.v[i], y.v[i])); }
OE_INLINE I16 operator-(I16 x, I16 y) { OE_EACH(I16, vsubq_s32(x.v[i], y.v[i])); }
OE_INLINE I16 operator*(I16 x, I16 y) { OE_EACH(I16, vmulq_s32(x.v[i], y.v[i])); }
OE_INLINE I16 max(I16 x, I16 y) { OE_EACH(I16, vmaxq_s32(x.v[i], y.v[i])); }
OE_INLINE I16 shift_to_exponent(I16 x) { OE_EACH(I16, vshlq_n_s32(x.v[i], 23)); }
OE_INLINE F16 to_float(I16 x) { OE_EACH(F16, vcvtq_f32_s32(x.v[i])); }
OE_INLINE I16 bits_of(F16 x) { OE_EACH(I16, vreinterpretq_s32_f32(x.v[i])); }
OE_INLINE F16 from_bits(I16 x) { OE_EACH(F16, vreinterpretq_f32_s32(x.v[i])); }
// FCVTNS rounds ties to even and saturates, but makes a NaN 0. docs/reference/numerics.md makes it the lowest number,
// as FMAXNM does here.
OE_INLINE I16 round(F16 x) {
  const float32x4_t lowest = vdupq_n_f32(-2147483648.0f);
  OE_EACH(I16, vcvtnq_s32_f32(vmaxnmq_f32(x.v[i], lowest)));
}
#define OE_HAS_ROUND_NUMBER
OE_INLINE I16 round_number(F16 x) { OE_EACH(I16, vcvtnq_s32_f32(x.v[i])); }
// round(min(x, high)). FMIN keeps a NaN, which round() makes the lowest number.
OE_INLINE I16 round_below(F16 x, F16 high) {
  OE_UNROLL for (int i = 0; i < 4; ++i) x.v[i] = vminq_f32(x.v[i], high.v[i]);
  return round(x);
}
OE_INLINE I16 load_s8(const int8_t* p) {
  const int8x16_t x = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_high_s8(x);
  return {{vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)}};
}

// Keeps what was computed before the call before what is computed after it: the steps of several exp2 at a time do not
// fit the registers.
#define OE_HAS_IN_ORDER
OE_INLINE void in_order(I16& x) { __asm__ volatile("" : "+w"(x.v[0]), "+w"(x.v[1]), "+w"(x.v[2]), "+w"(x.v[3])); }

constexpr int kRegisters = 4;  // that an I16 takes
constexpr bool kPipelined = false;
constexpr int kWidestTile = 1;  // units of a row-gather tile: the sums of 4 rows take 16 of 32 registers
constexpr int kWidestDense = 1;
constexpr int kWidestFloats = 1;
constexpr int kWidestQueries = 1;
constexpr int kMostSums = 16;
OE_INLINE constexpr bool is_scrambled(int) { return false; }
OE_INLINE void unscramble(I16 (&)[1]) {}

// ---- int32 to 8 bit: clamp(q + zero_point, lo, hi), mostly by the saturation of packing. q may be INT32_MIN, which
// gives lo.

struct ByteRange {
  int16x8_t zero_point;
  uint8x16_t lo, hi;
  bool is_signed;
};
OE_INLINE ByteRange byte_range(int32_t zero_point, int32_t lo, int32_t hi) {
  return {vdupq_n_s16((int16_t)zero_point), vdupq_n_u8((uint8_t)lo), vdupq_n_u8((uint8_t)hi), lo < 0};
}
template <bool>
OE_INLINE void store_bytes(void* out, const I16 (&q)[1], const ByteRange& range) {
  const int32x4_t(&x)[4] = q[0].v;
  const int16x8_t low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(x[0]), x[1]), range.zero_point);
  const int16x8_t high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(x[2]), x[3]), range.zero_point);
  if (range.is_signed) {
    const int8x16_t lowest = vreinterpretq_s8_u8(range.lo), highest = vreinterpretq_s8_u8(range.hi);
    const int8x16_t bytes = vqmovn_high_s16(vqmovn_s16(low), high);
    vst1q_s8(static_cast<int8_t*>(out), vminq_s8(vmaxq_s8(bytes, lowest), highest));
  } else {
    const uint8x16_t bytes = vqmovun_high_s16(vqmovun_s16(low), high);
    vst1q_u8(static_cast<uint8_t*>(out), vminq_u8(vmaxq_u8(bytes, range.lo), range.hi));
  }
}

// out[c][t] = rows[t][c], by four rounds of zips. Each round doubles the number of rows whose bytes lie side by side.
OE_INLINE void transpose_16x16(const int8_t* const (&rows)[16], int8_t (&out)[16][16]) {
  int8x16_t x[16], y[16];
  OE_UNROLL for (int i = 0; i < 16; ++i) x[i] = vld1q_s8(rows[i]);
  OE_UNROLL for (int step = 0; step < 4; ++step) {
    OE_UNROLL for (int i = 0; i < 8; ++i) {
      y[2 * i] = vzip1q_s8(x[i], x[i + 8]);
      y[2 * i + 1] = vzip2q_s8(x[i], x[i + 8]);
    }
    OE_UNROLL for (int i = 0; i < 16; ++i) x[i] = y[i];
  }
  OE_UNROLL for (int i = 0; i < 16; ++i) vst1q_s8(out[i], x[i]);
}

// Four weights of each of kRows rows that lie one after the other, in one register: a dword per row.
template <int kRows>
OE_INLINE int8x16_t load_together(const int8_t* p) {
  if (kRows == 4) return vld1q_s8(p);
  if (kRows == 2) return vcombine_s8(vld1_s8(p), vdup_n_s8(0));
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return vreinterpretq_s8_s32(vsetq_lane_s32(four, vdupq_n_s32(0), 0));
}
