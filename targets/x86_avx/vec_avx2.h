// 256-bit vectors: 16 tokens are two ymm registers. Included inside an anonymous namespace by a kernel file; the
// interface is described in obert_edge/engine/simd/README.md. The kernel file chooses the instructions of the dot
// product:
//
//   OE_DPBUSD(acc, u8, s8)   VPDPBUSD, as AVX-VNNI or AVX-512-VNNI encodes it
//   not defined              AVX2: bytes are widened to int16 and multiplied by VPMADDWD, which is exact; VPMADDUBSW
//                            would saturate where two products of 255 * 127 are added
//
//   F16, I16   [t0 .. t7] [t8 .. t15]            Q16   [t0: c0 c1 c2 c3 | .. | t7: ..] [t8: c0 c1 c2 c3 | .. | t15: ..]
//
// Bound: 3 ports execute 256-bit instructions and only one of them shuffles on Cascade Lake; there are 16 registers, or
// 32 where the kernel file is compiled for AVX-512VL.

struct F16 {
  __m256 a, b;  // tokens 0-7, 8-15
};
struct I16 {
  __m256i a, b;
};

OE_INLINE F16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
OE_INLINE void store(float* p, F16 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
OE_INLINE F16 splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
OE_INLINE F16 operator+(F16 x, F16 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
OE_INLINE F16 operator-(F16 x, F16 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
OE_INLINE F16 operator*(F16 x, F16 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
OE_INLINE F16 operator/(F16 x, F16 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
OE_INLINE F16 fma(F16 x, F16 y, F16 z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
OE_INLINE F16 max(F16 x, F16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }  // x > y ? x : y
OE_INLINE F16 min(F16 x, F16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
OE_INLINE F16 sqrt(F16 x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
OE_INLINE F16 abs(F16 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
// x - round(x), exactly, for |x| < 2^22: adding 1.5 * 2^23 rounds to a whole number, ties to even.
OE_INLINE F16 fraction(F16 x) { return x - ((x + splat(12582912.0f)) - splat(12582912.0f)); }
// min(|x|, limit) for a positive limit; a NaN gives the limit
OE_INLINE F16 min_magnitude(F16 x, F16 limit) { return min(abs(x), limit); }
OE_INLINE F16 copysign(F16 magnitude, F16 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_andnot_ps(sign, magnitude.a), _mm256_and_ps(sign, x.a)),
          _mm256_or_ps(_mm256_andnot_ps(sign, magnitude.b), _mm256_and_ps(sign, x.b))};
}
// y where x > 0, else otherwise.
OE_INLINE F16 if_positive(F16 x, F16 otherwise, F16 y) {
  const __m256 zero = _mm256_setzero_ps();
  return {_mm256_blendv_ps(otherwise.a, y.a, _mm256_cmp_ps(x.a, zero, _CMP_GT_OQ)),
          _mm256_blendv_ps(otherwise.b, y.b, _mm256_cmp_ps(x.b, zero, _CMP_GT_OQ))};
}

#if !defined(__AVX512VL__)  // with 16 registers, a coefficient is broadcast once for all vectors of a step
#define OE_HAS_IN_STEP
template <int kCount>
OE_INLINE void in_step(F16 (&x)[kCount]) {
  if (kCount < 2) return;
  OE_UNROLL for (int i = 0; i < kCount; ++i) __asm__ volatile("" : "+x"(x[i].a), "+x"(x[i].b));
}
#endif

OE_INLINE __m256i load_32(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
OE_INLINE void store_32(void* p, __m256i x) { _mm256_storeu_si256((__m256i*)p, x); }
OE_INLINE __m128i load_16(const void* p) { return _mm_loadu_si128((const __m128i*)p); }
OE_INLINE I16 load(const int32_t* p) { return {load_32(p), load_32(p + 8)}; }
OE_INLINE void store(int32_t* p, I16 x) {
  store_32(p, x.a);
  store_32(p + 8, x.b);
}
OE_INLINE I16 splat(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
OE_INLINE I16 operator+(I16 x, I16 y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
OE_INLINE I16 operator-(I16 x, I16 y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
OE_INLINE I16 operator*(I16 x, I16 y) { return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
OE_INLINE I16 max(I16 x, I16 y) { return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
OE_INLINE I16 shift_to_exponent(I16 x) { return {_mm256_slli_epi32(x.a, 23), _mm256_slli_epi32(x.b, 23)}; }
OE_INLINE F16 to_float(I16 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
OE_INLINE I16 round(F16 x) {
  return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}  // what does not fit becomes INT32_MIN
// round(min(x, high)). `high` comes first in MINPS, so that a NaN stays a NaN and becomes INT32_MIN.
OE_INLINE I16 round_below(F16 x, F16 high) { return round(min(high, x)); }
OE_INLINE I16 bits_of(F16 x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
OE_INLINE F16 from_bits(I16 x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
OE_INLINE I16 load_s8(const int8_t* p) {
  const __m128i x = load_16(p);
  return {_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(x, x))};
}

// ---- bytes

constexpr int32_t kBias = 0;     // what a Q16 holds less than the activations
constexpr int kRegisters = 2;    // that an I16 takes
constexpr int kWidestTile = 2;   // units of a row-gather tile: the 32 tokens that unpacks of whole registers interleave
constexpr int kWidestDense = 1;  // units of a Dense4 tile: with one, the sums of 4 rows take 8 of 16 registers
constexpr int kWidestFloats = 1;   // units of a tile of floats: with one, four partial sums take 8 of 16 registers
constexpr int kWidestQueries = 1;  // units of an attention tile
OE_INLINE constexpr bool is_scrambled(int) { return true; }
#if defined(__AVX512VL__)
constexpr bool kPipelined = true;  // 32 registers have room for the quads of a pipeline
constexpr int kMostSums = 16;      // registers that the sums of a row-gather tile may take
#else
constexpr bool kPipelined = false;
constexpr int kMostSums = 8;
#endif

struct Q16 {  // 16 tokens x 4 channels, one dword per token
  __m256i a, b;
};
OE_INLINE Q16 load_quad(const uint8_t* p) { return {load_32(p), load_32(p + 32)}; }
OE_INLINE __m256i load_weights(const int8_t* p) {  // 4 weights, in every dword
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}

// sums[row][token] += the dot product of the token's 4 channels and the row's 4 weights; rows are `stride` bytes apart.
template <int kRows, int kTile>
OE_INLINE void add_quad(I16 (&sums)[kRows * kTile], const Q16 (&x)[kTile], const int8_t* weights, size_t stride) {
#if defined(OE_DPBUSD)
  OE_UNROLL for (int r = 0; r < kRows; ++r) {
    const __m256i w = load_weights(weights + static_cast<size_t>(r) * stride);
    OE_UNROLL for (int u = 0; u < kTile; ++u) {
      I16& sum = sums[r * kTile + u];
      sum.a = OE_DPBUSD(sum.a, x[u].a, w);
      sum.b = OE_DPBUSD(sum.b, x[u].b, w);
    }
  }
#else
  // Channels 0 and 2 are widened to words and multiplied for all rows, then channels 1 and 3, so that only one of the
  // two halves is in registers at a time.
  const __m256i even = _mm256_set1_epi16(0xFF);
  OE_UNROLL for (int u = 0; u < kTile; ++u) {
    const __m256i even_a = _mm256_and_si256(x[u].a, even), even_b = _mm256_and_si256(x[u].b, even);
    OE_UNROLL for (int r = 0; r < kRows; ++r) {
      const __m256i w =
          _mm256_srai_epi16(_mm256_slli_epi16(load_weights(weights + static_cast<size_t>(r) * stride), 8), 8);
      I16& sum = sums[r * kTile + u];
      sum.a = _mm256_add_epi32(sum.a, _mm256_madd_epi16(even_a, w));
      sum.b = _mm256_add_epi32(sum.b, _mm256_madd_epi16(even_b, w));
    }
    const __m256i odd_a = _mm256_srli_epi16(x[u].a, 8), odd_b = _mm256_srli_epi16(x[u].b, 8);
    OE_UNROLL for (int r = 0; r < kRows; ++r) {
      const __m256i w = _mm256_srai_epi16(load_weights(weights + static_cast<size_t>(r) * stride), 8);
      I16& sum = sums[r * kTile + u];
      sum.a = _mm256_add_epi32(sum.a, _mm256_madd_epi16(odd_a, w));
      sum.b = _mm256_add_epi32(sum.b, _mm256_madd_epi16(odd_b, w));
    }
  }
#endif
}
#if defined(OE_DPBUSD)
// The weights of a record's four rows, each in every dword. They come out of one load, since loads bound Block1x4.
#define OE_HAS_RECORD_WEIGHTS
template <int kTile>
struct RecordWeights {
  __attribute__((always_inline)) explicit RecordWeights(const int8_t* p) {
    __m256i all = _mm256_broadcastsi128_si256(load_16(p));
    __asm__("" : "+x"(all));  // otherwise clang makes four loads of it
    row[0] = _mm256_shuffle_epi32(all, 0x00);
    row[1] = _mm256_shuffle_epi32(all, 0x55);
    row[2] = _mm256_shuffle_epi32(all, 0xAA);
    row[3] = _mm256_shuffle_epi32(all, 0xFF);
  }
  __m256i row[4];
};
template <int kTile>
OE_INLINE void add_row(I16 (&sums)[kTile], const Q16 (&x)[kTile], const RecordWeights<kTile>& weights, int row) {
  OE_UNROLL for (int u = 0; u < kTile; ++u) {
    sums[u].a = OE_DPBUSD(sums[u].a, x[u].a, weights.row[row]);
    sums[u].b = OE_DPBUSD(sums[u].b, x[u].b, weights.row[row]);
  }
}
#endif
// sum[token] += the dot product of the token's 4 channels and its own 4 signed bytes at `w`.
OE_INLINE I16 add_lanes(I16 sum, Q16 x, const int8_t* w) {
#if defined(OE_DPBUSD)
  return {OE_DPBUSD(sum.a, x.a, load_32(w)), OE_DPBUSD(sum.b, x.b, load_32(w + 32))};
#else
  // The low seven bits and the top bit of a byte by themselves: two products of either fit 16 bits.
  const __m256i low = _mm256_set1_epi8(127), words = _mm256_set1_epi16(1);
  const auto dot = [&](__m256i acc, __m256i y, __m256i v) OE_INLINE_LAMBDA {
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_and_si256(y, low), v), words));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_andnot_si256(low, y), v), words));
  };
  return {dot(sum.a, x.a, load_32(w)), dot(sum.b, x.b, load_32(w + 32))};
#endif
}
// The same four bytes for every token, as a Q16 holds them.
OE_INLINE Q16 splat_quad(const uint8_t* p) {
  const __m256i four = load_weights(reinterpret_cast<const int8_t*>(p));
  return {four, four};
}
// acc[token] += the sum of its 4 signed bytes
OE_INLINE I16 add_signed_bytes(I16 acc, const int8_t* p) {
  const __m256i bytes = _mm256_set1_epi8(1), words = _mm256_set1_epi16(1);
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, load_32(p)), words)),
          _mm256_add_epi32(acc.b, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, load_32(p + 32)), words))};
}

// Four channels as loaded. One unit: channels 0 and 2, and 1 and 3, in the two 128-bit lanes of a register. Two units: a
// register per channel.
template <int kTile>
struct Rows {
  __m256i v[2 * kTile];
};
OE_INLINE __m256i load_two(const uint8_t* low, const uint8_t* high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load_16(low)), load_16(high), 1);
}
OE_INLINE void load_rows(Rows<1>& rows, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  rows.v[0] = load_two(c0, c2);
  rows.v[1] = load_two(c1, c3);
}
OE_INLINE void load_rows(Rows<2>& rows, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  rows.v[0] = load_32(c0);
  rows.v[1] = load_32(c1);
  rows.v[2] = load_32(c2);
  rows.v[3] = load_32(c3);
}
// The unpacks stay in 128-bit lanes: `a` gets tokens 0-3 and 8-11, `b` tokens 4-7 and 12-15 ("scrambled").
OE_INLINE void interleave_rows(Q16 (&out)[1], const Rows<1>& rows) {
  const __m256i low = _mm256_unpacklo_epi8(rows.v[0], rows.v[1]), high = _mm256_unpackhi_epi8(rows.v[0], rows.v[1]);
  const __m256i c01 = _mm256_permute2x128_si256(low, high, 0x20), c23 = _mm256_permute2x128_si256(low, high, 0x31);
  out[0] = {_mm256_unpacklo_epi16(c01, c23), _mm256_unpackhi_epi16(c01, c23)};
}
// The first unit gets tokens 0-3 and 16-19, 8-11 and 24-27, the second one 4-7 and 20-23, 12-15 and 28-31.
OE_INLINE void interleave_rows(Q16 (&out)[2], const Rows<2>& rows) {
  const __m256i low_01 = _mm256_unpacklo_epi8(rows.v[0], rows.v[1]);
  const __m256i high_01 = _mm256_unpackhi_epi8(rows.v[0], rows.v[1]);
  const __m256i low_23 = _mm256_unpacklo_epi8(rows.v[2], rows.v[3]);
  const __m256i high_23 = _mm256_unpackhi_epi8(rows.v[2], rows.v[3]);
  out[0] = {_mm256_unpacklo_epi16(low_01, low_23), _mm256_unpacklo_epi16(high_01, high_23)};
  out[1] = {_mm256_unpackhi_epi16(low_01, low_23), _mm256_unpackhi_epi16(high_01, high_23)};
}
template <int kTile>
OE_INLINE void pin(Q16 (&)[kTile], Rows<kTile>&) {}

// ---- the first 8 tokens of a unit: what is a register pair for 16 is one register, in token order
//
//   c0 [t0 .. t7]  \                     \
//   c1 [t0 .. t7]  / VPUNPCKLBW c0c1 ..   \ VPUNPCKLWD, VPUNPCKHWD    [t0: c0 c1 c2 c3 | .. t3]  [t4 .. t7]
//   c2, c3           VPUNPCKLBW c2c3 ..   /
[[maybe_unused]] OE_INLINE __m256i interleave_eight(const uint8_t* c0, const uint8_t* c1, const uint8_t* c2,
                                                    const uint8_t* c3) {
  const __m128i c01 = _mm_unpacklo_epi8(load_16(c0), load_16(c1)), c23 = _mm_unpacklo_epi8(load_16(c2), load_16(c3));
  return _mm256_set_m128i(_mm_unpackhi_epi16(c01, c23), _mm_unpacklo_epi16(c01, c23));
}
#if defined(OE_DPBUSD) && !defined(__AVX512VL__)
#define OE_HAS_HALF_UNITS
struct Q8 {
  __m256i v;
};
OE_INLINE Q8 interleave_half(const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  return {interleave_eight(c0, c1, c2, c3)};
}
OE_INLINE Q8 load_half_quad(const uint8_t* p) { return {load_32(p)}; }
OE_INLINE void store_half_quad(uint8_t* p, Q8 x) { store_32(p, x.v); }
// As add_quad and add_row do, in token order. Lanes 8 to 15 stay as they are.
template <int kRows>
OE_INLINE void add_half(I16 (&sums)[kRows], Q8 x, const int8_t* weights) {
  OE_UNROLL for (int r = 0; r < kRows; ++r) sums[r].a = OE_DPBUSD(sums[r].a, x.v, load_weights(weights + 4 * r));
}
OE_INLINE void add_half_row(I16& sum, Q8 x, const RecordWeights<1>& weights, int row) {
  sum.a = OE_DPBUSD(sum.a, x.v, weights.row[row]);
}
#endif

// Turns the scrambled order into token order, and back.
OE_INLINE void swap_lanes(__m256i& a, __m256i& b) {
  const __m256i low = _mm256_permute2x128_si256(a, b, 0x20), high = _mm256_permute2x128_si256(a, b, 0x31);
  a = low;
  b = high;
}
OE_INLINE void unscramble(I16 (&x)[1]) { swap_lanes(x[0].a, x[0].b); }
// The same for two units that were unpacked from 32 tokens at once.
OE_INLINE void unscramble(I16 (&x)[2]) {
  swap_lanes(x[0].a, x[1].a);
  swap_lanes(x[0].b, x[1].b);
}

// Four channels of 16 tokens to 64 bytes, one dword per token, in token order.
OE_INLINE void interleave(uint8_t* out, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  const __m256i c02 = load_two(c0, c2), c13 = load_two(c1, c3);
  const __m256i words = _mm256_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15,  //
                                         0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
  const __m256i low = _mm256_permute4x64_epi64(_mm256_unpacklo_epi8(c02, c13), 0xD8);
  const __m256i high = _mm256_permute4x64_epi64(_mm256_unpackhi_epi8(c02, c13), 0xD8);
  store_32(out, _mm256_shuffle_epi8(low, words));
  store_32(out + 32, _mm256_shuffle_epi8(high, words));
}
// The same for signed bytes, which add_quad takes as weights.
OE_INLINE void interleave_weights(uint8_t* out, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2,
                                  const uint8_t* c3) {
  interleave(out, c0, c1, c2, c3);
}

// ---- int32 to 8 bit: clamp(q + zero_point, lo, hi), mostly by the saturation of packing. q may be INT32_MIN, which
// gives lo.

struct ByteRange {
  __m256i zero_point;  // int16
  __m128i lo, hi;      // bytes
  bool is_signed;
};
OE_INLINE ByteRange byte_range(int32_t zero_point, int32_t lo, int32_t hi) {
  return {_mm256_set1_epi16((int16_t)zero_point), _mm_set1_epi8((int8_t)lo), _mm_set1_epi8((int8_t)hi), lo < 0};
}
template <bool kScrambled>
OE_INLINE void store_bytes(void* out, const I16 (&q)[1], const ByteRange& range) {
  __m256i words = _mm256_packs_epi32(q[0].a, q[0].b);
  if (!kScrambled) words = _mm256_permute4x64_epi64(words, 0xD8);
  words = _mm256_adds_epi16(words, range.zero_point);
  const __m128i low = _mm256_castsi256_si128(words), high = _mm256_extracti128_si256(words, 1);
  const __m128i bytes = range.is_signed ? _mm_min_epi8(_mm_max_epi8(_mm_packs_epi16(low, high), range.lo), range.hi)
                                        : _mm_min_epu8(_mm_max_epu8(_mm_packus_epi16(low, high), range.lo), range.hi);
  _mm_storeu_si128((__m128i*)out, bytes);
}
// The same for two units, whose scrambled order the packs turn into token order.
template <bool kScrambled>
OE_INLINE void store_bytes(void* out, const I16 (&q)[2], const ByteRange& range) {
  const __m256i second = kScrambled ? q[1].a : q[0].b, third = kScrambled ? q[0].b : q[1].a;
  const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(q[0].a, second), range.zero_point);
  const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(third, q[1].b), range.zero_point);
  const __m256i lo = _mm256_broadcastsi128_si256(range.lo), hi = _mm256_broadcastsi128_si256(range.hi);
  __m256i bytes = range.is_signed ? _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(low, high), lo), hi)
                                  : _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(low, high), lo), hi);
  if (!kScrambled) bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  store_32(out, bytes);
}

// The same for two neighboring channels of one unit, whose bytes are contiguous.
#define OE_HAS_STORE_CHANNELS
template <bool kScrambled>
OE_INLINE void store_channels(void* out, const I16 (&q)[2], const ByteRange& range) {
  if (!kScrambled) return store_bytes<false>(out, q, range);
  const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(q[0].a, q[0].b), range.zero_point);
  const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(q[1].a, q[1].b), range.zero_point);
  const __m256i lo = _mm256_broadcastsi128_si256(range.lo), hi = _mm256_broadcastsi128_si256(range.hi);
  const __m256i bytes = range.is_signed ? _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(low, high), lo), hi)
                                        : _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(low, high), lo), hi);
  store_32(out, _mm256_permute4x64_epi64(bytes, 0xD8));
}

// The low bytes of 4 keys x 8 queries to one dword per query. Bits 8 to 21 must be 0; those above are ignored.
OE_INLINE __m256i pack_quad(__m256i k0, __m256i k1, __m256i k2, __m256i k3) {
  const __m256i low = _mm256_and_si256(_mm256_or_si256(k0, _mm256_slli_epi32(k1, 8)), _mm256_set1_epi32(0xFFFF));
  return _mm256_or_si256(low, _mm256_or_si256(_mm256_slli_epi32(k2, 16), _mm256_slli_epi32(k3, 24)));
}
OE_INLINE void store_quad(uint8_t* out, I16 k0, I16 k1, I16 k2, I16 k3) {
  store_32(out, pack_quad(k0.a, k1.a, k2.a, k3.a));
  store_32(out + 32, pack_quad(k0.b, k1.b, k2.b, k3.b));
}
