// AVX-512-VNNI vectors: 16 tokens are one zmm register. Included inside an anonymous namespace by a kernel file; the
// interface is described in obert_edge/engine/simd/README.md.
//
//   F16, I16   [t0 t1 .. t15]                       Q16   [t0: c0 c1 c2 c3 | t1: c0 c1 c2 c3 | .. | t15: c0 c1 c2 c3]
//
// Bound (Cascade Lake): two ports, p0 and p5, execute 512-bit instructions. VPDPBUSD runs on both, every shuffle on p5
// alone. To interleave a quad of channels takes, for 16 tokens,
//     in tiles of 4 units   2 instructions   (8 unpacks for 64 tokens)
//     in tiles of 2 units   3 instructions   (2 inserts, 2 VPERMT2D, 2 VPSHUFB for 32 tokens)
//     in tiles of 1 unit    5 instructions   (3 inserts, VPERMD, VPSHUFB)
// on these ports, beside one VPDPBUSD for each row.

struct F16 {
  __m512 v;
};
struct I16 {
  __m512i v;
};
struct Q16 {  // 16 tokens x 4 channels, one dword per token
  __m512i v;
};
OE_INLINE F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
OE_INLINE void store(float* p, F16 x) { _mm512_storeu_ps(p, x.v); }
OE_INLINE F16 splat(float x) { return {_mm512_set1_ps(x)}; }
OE_INLINE F16 operator+(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
OE_INLINE F16 operator-(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
OE_INLINE F16 operator*(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
OE_INLINE F16 operator/(F16 a, F16 b) { return {_mm512_div_ps(a.v, b.v)}; }
OE_INLINE F16 fma(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
OE_INLINE F16 max(F16 a, F16 b) { return {_mm512_max_ps(a.v, b.v)}; }  // a > b ? a : b, also for NaN
OE_INLINE F16 min(F16 a, F16 b) { return {_mm512_min_ps(a.v, b.v)}; }
OE_INLINE F16 sqrt(F16 a) { return {_mm512_sqrt_ps(a.v)}; }
OE_INLINE F16 abs(F16 a) { return {_mm512_abs_ps(a.v)}; }
// x - round(x), exactly, for |x| < 2^22
OE_INLINE F16 fraction(F16 x) { return {_mm512_reduce_ps(x.v, _MM_FROUND_TO_NEAREST_INT)}; }
// min(|x|, limit) for a positive limit; a NaN gives the limit
OE_INLINE F16 min_magnitude(F16 x, F16 limit) { return {_mm512_range_ps(x.v, limit.v, 0b1010)}; }
OE_INLINE F16 copysign(F16 magnitude, F16 sign) {  // bit by bit: sign where the mask is set
  return {_mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_set1_epi32(INT32_MIN), _mm512_castps_si512(sign.v),
                                                        _mm512_castps_si512(magnitude.v), 0xCA))};
}
// b where x > 0, else a.
OE_INLINE F16 if_positive(F16 x, F16 a, F16 b) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_GT_OQ), a.v, b.v)};
}

#define OE_HAS_IN_STEP
template <int kCount>
OE_INLINE void in_step(F16 (&x)[kCount]) {
  if (kCount < 8) return;
  OE_UNROLL for (int i = 0; i < kCount; ++i) __asm__ volatile("" : "+v"(x[i].v));
}

OE_INLINE I16 load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
OE_INLINE void store(int32_t* p, I16 x) { _mm512_storeu_si512(p, x.v); }
OE_INLINE I16 splat(int32_t x) { return {_mm512_set1_epi32(x)}; }
OE_INLINE I16 operator+(I16 a, I16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
OE_INLINE I16 operator-(I16 a, I16 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
OE_INLINE I16 operator*(I16 a, I16 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
OE_INLINE I16 max(I16 a, I16 b) { return {_mm512_max_epi32(a.v, b.v)}; }
OE_INLINE I16 shift_to_exponent(I16 a) { return {_mm512_slli_epi32(a.v, 23)}; }
OE_INLINE F16 to_float(I16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
OE_INLINE I16 round(F16 a) { return {_mm512_cvtps_epi32(a.v)}; }  // what does not fit becomes INT32_MIN
// round(min(x, high)). `high` comes first in VMINPS, so that a NaN stays a NaN and becomes INT32_MIN.
OE_INLINE I16 round_below(F16 x, F16 high) { return round(min(high, x)); }
OE_INLINE I16 bits_of(F16 a) { return {_mm512_castps_si512(a.v)}; }
OE_INLINE F16 from_bits(I16 a) { return {_mm512_castsi512_ps(a.v)}; }
OE_INLINE I16 load_s8(const int8_t* p) { return {_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p))}; }

// ---- bytes

// sums[row][token] += the dot product of the token's 4 channels and the row's 4 weights; rows are `stride` bytes apart.
template <int kRows, int kTile>
OE_INLINE void add_quad(I16 (&sums)[kRows * kTile], const Q16 (&x)[kTile], const int8_t* weights, size_t stride) {
  OE_UNROLL for (int r = 0; r < kRows; ++r) {
    int32_t four;
    __builtin_memcpy(&four, weights + static_cast<size_t>(r) * stride, 4);
    const __m512i w = _mm512_set1_epi32(four);
    OE_UNROLL for (int u = 0; u < kTile; ++u) {
      sums[r * kTile + u].v = _mm512_dpbusd_epi32(sums[r * kTile + u].v, x[u].v, w);
    }
  }
}
OE_INLINE Q16 load_quad(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
// sum[token] += the dot product of the token's 4 channels and its own 4 signed bytes at `w`.
OE_INLINE I16 add_lanes(I16 sum, Q16 x, const int8_t* w) {
  return {_mm512_dpbusd_epi32(sum.v, x.v, _mm512_loadu_si512(w))};
}
// The same four bytes for every token, as a Q16 holds them.
OE_INLINE Q16 splat_quad(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return {_mm512_set1_epi32(four)};
}
// acc[token] += the sum of its 4 signed bytes
OE_INLINE I16 add_signed_bytes(I16 acc, const int8_t* p) {
  return {_mm512_dpbusd_epi32(acc.v, _mm512_set1_epi8(1), _mm512_loadu_si512(p))};
}

constexpr int32_t kBias = 0;       // what a Q16 holds less than the activations
constexpr int kRegisters = 1;      // that an I16 takes
constexpr bool kPipelined = true;  // 32 registers have room for the quads of a pipeline
constexpr int kWidestTile = 4;     // units of a row-gather tile: the sums of 4 rows x 4 units take 16 registers
constexpr int kWidestDense = 4;    // units of a Dense4 tile
constexpr int kWidestFloats = 4;   // units of a tile of floats
constexpr int kWidestQueries = 4;  // units of an attention tile
constexpr int kMostSums = 16;      // registers that the sums of a row-gather tile may take
OE_INLINE constexpr bool is_scrambled(int units) { return units == 4; }

// Hides from clang how a vector was made. It would merge the chosen shuffles into others that take more instructions.
OE_INLINE __m512i opaque(__m512i x) {
  __asm__("" : "+v"(x));
  return x;
}

// The weights of a record's four rows, each in every dword. They come out of one load, since loads bound Block1x4; but
// a tile of one unit is bound by the instructions that can be issued, and a load that broadcasts saves one.
#define OE_HAS_RECORD_WEIGHTS
template <int kTile>
struct RecordWeights {
  __attribute__((always_inline)) explicit RecordWeights(const int8_t* p) {
    const __m512i all = opaque(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)p)));
    row[0] = _mm512_shuffle_epi32(all, _MM_PERM_AAAA);
    row[1] = _mm512_shuffle_epi32(all, _MM_PERM_BBBB);
    row[2] = _mm512_shuffle_epi32(all, _MM_PERM_CCCC);
    row[3] = _mm512_shuffle_epi32(all, _MM_PERM_DDDD);
  }
  __m512i row[4];
};
template <>
struct RecordWeights<1> {
  __attribute__((always_inline)) explicit RecordWeights(const int8_t* p) {
    int32_t four[4];
    __builtin_memcpy(four, p, sizeof four);
    OE_UNROLL for (int r = 0; r < 4; ++r) row[r] = _mm512_set1_epi32(four[r]);
  }
  __m512i row[4];
};
template <int kTile>
OE_INLINE void add_row(I16 (&sums)[kTile], const Q16 (&x)[kTile], const RecordWeights<kTile>& weights, int row) {
  OE_UNROLL for (int u = 0; u < kTile; ++u) sums[u].v = _mm512_dpbusd_epi32(sums[u].v, x[u].v, weights.row[row]);
}

OE_INLINE __m512i load_bytes(const void* p) { return _mm512_loadu_si512(p); }
OE_INLINE __m256i load_half(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
OE_INLINE __m128i load_quarter(const void* p) { return _mm_loadu_si128((const __m128i*)p); }

// In every 128-bit lane: 4 channels x 4 tokens to 4 tokens x 4 channels.
OE_INLINE __m512i transpose_bytes(__m512i x) {
  const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(order));
}

// Four channels of kTile units as loaded, before they are interleaved.
template <int kTile>
struct Rows {
  __m512i v[kTile];
};

// One unit: one register holds all four channels.
//   c0 [t0 .. t15]                 lane 0 (tokens 0-3)   lane 1 (4-7)   ...
//   c1 [t0 .. t15]   --VPERMD-->   c0 c1 c2 c3 dwords    ...            --VPSHUFB--> token-major
OE_INLINE void load_rows(Rows<1>& rows, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  __m512i x = _mm512_zextsi128_si512(load_quarter(c0));
  x = opaque(_mm512_inserti32x4(x, load_quarter(c1), 1));
  x = opaque(_mm512_inserti32x4(x, load_quarter(c2), 2));
  rows.v[0] = opaque(_mm512_inserti32x4(x, load_quarter(c3), 3));
}
OE_INLINE void interleave_rows(Q16 (&out)[1], const Rows<1>& rows) {
  const __m512i lanes = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  out[0].v = transpose_bytes(opaque(_mm512_permutexvar_epi32(lanes, rows.v[0])));
}

// Two units: two registers hold two channels each.
OE_INLINE void load_rows(Rows<2>& rows, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  rows.v[0] = opaque(_mm512_inserti64x4(_mm512_castsi256_si512(load_half(c0)), load_half(c1), 1));
  rows.v[1] = opaque(_mm512_inserti64x4(_mm512_castsi256_si512(load_half(c2)), load_half(c3), 1));
}
OE_INLINE void interleave_rows(Q16 (&out)[2], const Rows<2>& rows) {
  const __m512i low = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
  const __m512i high = _mm512_setr_epi32(4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31);
  out[0].v = transpose_bytes(opaque(_mm512_permutex2var_epi32(rows.v[0], low, rows.v[1])));
  out[1].v = transpose_bytes(opaque(_mm512_permutex2var_epi32(rows.v[0], high, rows.v[1])));
}

// Four units: a register per channel. The unpacks stay in 128-bit lanes, so lane l of out[u] holds tokens
// 16 l + 4 u .. + 3 ("scrambled"): the packs of store_bytes undo it for free.
OE_INLINE void load_rows(Rows<4>& rows, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  rows.v[0] = load_bytes(c0);
  rows.v[1] = load_bytes(c1);
  rows.v[2] = load_bytes(c2);
  rows.v[3] = load_bytes(c3);
}
OE_INLINE void interleave_rows(Q16 (&out)[4], const Rows<4>& rows) {
  const __m512i ab_low = _mm512_unpacklo_epi8(rows.v[0], rows.v[1]);
  const __m512i ab_high = _mm512_unpackhi_epi8(rows.v[0], rows.v[1]);
  const __m512i cd_low = _mm512_unpacklo_epi8(rows.v[2], rows.v[3]);
  const __m512i cd_high = _mm512_unpackhi_epi8(rows.v[2], rows.v[3]);
  out[0].v = _mm512_unpacklo_epi16(ab_low, cd_low);
  out[1].v = _mm512_unpackhi_epi16(ab_low, cd_low);
  out[2].v = _mm512_unpacklo_epi16(ab_high, cd_high);
  out[3].v = _mm512_unpackhi_epi16(ab_high, cd_high);
}

// Keeps the order of a software pipeline: what is written before this call is computed before what is written after it.
OE_INLINE void pin(Q16 (&x)[1], Rows<1>& rows) { __asm__ volatile("" : "+v"(x[0].v), "+v"(rows.v[0])); }
OE_INLINE void pin(Q16 (&x)[2], Rows<2>& rows) {
  __asm__ volatile("" : "+v"(x[0].v), "+v"(x[1].v), "+v"(rows.v[0]), "+v"(rows.v[1]));
}
OE_INLINE void pin(Q16 (&x)[4], Rows<4>& rows) {
  __asm__ volatile(""
                   : "+v"(x[0].v), "+v"(x[1].v), "+v"(x[2].v), "+v"(x[3].v), "+v"(rows.v[0]), "+v"(rows.v[1]),
                     "+v"(rows.v[2]), "+v"(rows.v[3]));
}

// ---- Interleaving in two halves, woven into the dot products of a software pipeline. While quad i is in x:
//   add_woven   multiplies quad i and, unit by unit, takes quad i + 1 from `half` to x by the second round of shuffles;
//   load_half   then loads quad i + 2 to `half` and does the first round (with 4 units: of pairs of channels).
//
//   R = 4, 4 units, 12 cycles:   p0   dot   dot   dot   dot   dot   dot   ...   12 dot products
//                                p5   shuf  shuf  dot   shuf  shuf  dot   ...    4 dot products and 8 shuffles
#define OE_HAS_ADD_WOVEN

OE_INLINE void load_half(Rows<1>& half, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  const __m512i lanes = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  load_rows(half, c0, c1, c2, c3);
  half.v[0] = opaque(_mm512_permutexvar_epi32(lanes, half.v[0]));
}
OE_INLINE void load_half(Rows<2>& half, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  const __m512i low = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
  const __m512i high = _mm512_setr_epi32(4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31);
  Rows<2> rows;
  load_rows(rows, c0, c1, c2, c3);
  half.v[0] = opaque(_mm512_permutex2var_epi32(rows.v[0], low, rows.v[1]));
  half.v[1] = opaque(_mm512_permutex2var_epi32(rows.v[0], high, rows.v[1]));
}
OE_INLINE void load_half(Rows<4>& half, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  const __m512i a = load_bytes(c0), b = load_bytes(c1), c = load_bytes(c2), d = load_bytes(c3);
  half.v[0] = _mm512_unpacklo_epi8(a, b);
  half.v[1] = _mm512_unpackhi_epi8(a, b);
  half.v[2] = _mm512_unpacklo_epi8(c, d);
  half.v[3] = _mm512_unpackhi_epi8(c, d);
}

// sum += the dot products of x with four weights that the instruction itself broadcasts from memory.
OE_INLINE void add_from_memory(I16& sum, Q16 x, const int8_t* weights) {
  using Four = const int32_t __attribute__((may_alias, aligned(1)));
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum.v) : "v"(x.v), "m"(*reinterpret_cast<Four*>(weights)));
}

// Narrow tiles are bound by the 4 instructions a cycle that can be issued. Weights that are used only once or twice
// come from memory, which saves an instruction each; with two units those of 3 rows do, as many as the load ports have
// time for.
template <int kRows>
OE_INLINE void add_woven(I16 (&sums)[kRows], Q16 (&x)[1], Rows<1>& half, const int8_t* weights, const uint8_t* c0,
                         const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  OE_UNROLL for (int r = 0; r < kRows; ++r) add_from_memory(sums[r], x[0], weights + 4 * r);
  __asm__ volatile("" : "+v"(sums[kRows - 1].v), "+v"(x[0].v));
  x[0].v = transpose_bytes(half.v[0]);
  load_half(half, c0, c1, c2, c3);
  __asm__ volatile("" : "+v"(half.v[0]), "+v"(x[0].v));
}

template <int kRows>
OE_INLINE void add_woven(I16 (&sums)[kRows * 2], Q16 (&x)[2], Rows<2>& half, const int8_t* weights, const uint8_t* c0,
                         const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  int32_t four;
  __builtin_memcpy(&four, weights, 4);
  const __m512i w = _mm512_set1_epi32(four);
  OE_UNROLL for (int u = 0; u < 2; ++u) {
    sums[u].v = _mm512_dpbusd_epi32(sums[u].v, x[u].v, w);
    OE_UNROLL for (int r = 1; r < kRows; ++r) add_from_memory(sums[r * 2 + u], x[u], weights + 4 * r);
    __asm__ volatile("" : "+v"(sums[u].v), "+v"(sums[(kRows - 1) * 2 + u].v), "+v"(x[u].v));
    x[u].v = transpose_bytes(half.v[u]);
  }
  load_half(half, c0, c1, c2, c3);
  __asm__ volatile("" : "+v"(half.v[0]), "+v"(half.v[1]), "+v"(x[1].v));
}

// The CPU assigns instructions to ports in program order. If all dot products came first, half of them would be queued
// on p5, and the shuffles would wait behind them.
template <int kRows>
OE_INLINE void add_woven(I16 (&sums)[kRows * 4], Q16 (&x)[4], Rows<4>& half, const int8_t* weights, const uint8_t* c0,
                         const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  __m512i w[kRows];
  OE_UNROLL for (int r = 0; r < kRows; ++r) {
    int32_t four;
    __builtin_memcpy(&four, weights + 4 * r, 4);
    w[r] = _mm512_set1_epi32(four);
  }
  const auto add = [&](int u) OE_INLINE_LAMBDA {
    OE_UNROLL for (int r = 0; r < kRows; ++r) {
      sums[r * 4 + u].v = _mm512_dpbusd_epi32(sums[r * 4 + u].v, x[u].v, w[r]);
    }
  };
  const auto keep_order = [&](int u) OE_INLINE_LAMBDA {  // as pin() does
    __asm__ volatile("" : "+v"(sums[u].v), "+v"(sums[(kRows - 1) * 4 + u].v), "+v"(x[u].v));
  };
  const __m512i a = load_bytes(c0), b = load_bytes(c1);
  add(0);
  keep_order(0);
  x[0].v = _mm512_unpacklo_epi16(half.v[0], half.v[2]);
  keep_order(0);
  add(1);
  keep_order(1);
  x[1].v = _mm512_unpackhi_epi16(half.v[0], half.v[2]);
  half.v[0] = _mm512_unpacklo_epi8(a, b);
  const __m512i c = load_bytes(c2), d = load_bytes(c3);
  keep_order(1);
  add(2);
  keep_order(2);
  x[2].v = _mm512_unpacklo_epi16(half.v[1], half.v[3]);
  half.v[2] = _mm512_unpacklo_epi8(c, d);
  keep_order(2);
  add(3);
  keep_order(3);
  x[3].v = _mm512_unpackhi_epi16(half.v[1], half.v[3]);
  half.v[1] = _mm512_unpackhi_epi8(a, b);
  half.v[3] = _mm512_unpackhi_epi8(c, d);
  keep_order(3);
}

// Four channels of 16 tokens to 64 bytes, one dword per token, in token order.
OE_INLINE void interleave(uint8_t* out, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  Rows<1> rows;
  Q16 quad[1];
  load_rows(rows, c0, c1, c2, c3);
  interleave_rows(quad, rows);
  _mm512_storeu_si512(out, quad[0].v);
}
// The same for signed bytes, which add_quad takes as weights.
OE_INLINE void interleave_weights(uint8_t* out, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2,
                                  const uint8_t* c3) {
  interleave(out, c0, c1, c2, c3);
}

// Turns the scrambled order of interleave_rows into token order, and back: a transposition of 4 x 4 lanes of 128 bits.
OE_INLINE void unscramble(I16 (&)[1]) {}
OE_INLINE void unscramble(I16 (&)[2]) {}
OE_INLINE void unscramble(I16 (&x)[4]) {
  const __m512i a = _mm512_shuffle_i32x4(x[0].v, x[1].v, 0x44), b = _mm512_shuffle_i32x4(x[0].v, x[1].v, 0xEE);
  const __m512i c = _mm512_shuffle_i32x4(x[2].v, x[3].v, 0x44), d = _mm512_shuffle_i32x4(x[2].v, x[3].v, 0xEE);
  x[0].v = _mm512_shuffle_i32x4(a, c, 0x88);
  x[1].v = _mm512_shuffle_i32x4(a, c, 0xDD);
  x[2].v = _mm512_shuffle_i32x4(b, d, 0x88);
  x[3].v = _mm512_shuffle_i32x4(b, d, 0xDD);
}

// ---- int32 to 8 bit: clamp(q + zero_point, lo, hi), mostly by the saturation of packing. q may be INT32_MIN, which
// gives lo.

struct ByteRange {
  __m512i zero_point;  // int16
  __m512i lo, hi;      // bytes
  bool is_signed;
};
OE_INLINE ByteRange byte_range(int32_t zero_point, int32_t lo, int32_t hi) {
  return {_mm512_set1_epi16((int16_t)zero_point), _mm512_set1_epi8((int8_t)lo), _mm512_set1_epi8((int8_t)hi), lo < 0};
}
OE_INLINE __m512i words_to_bytes(__m512i low, __m512i high, const ByteRange& range) {
  low = _mm512_adds_epi16(low, range.zero_point);
  high = _mm512_adds_epi16(high, range.zero_point);
  if (range.is_signed) {
    return _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(low, high), range.lo), range.hi);
  }
  return _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(low, high), range.lo), range.hi);
}
template <bool kScrambled>
OE_INLINE void store_bytes(void* out, const I16 (&q)[4], const ByteRange& range) {
  __m512i bytes = words_to_bytes(_mm512_packs_epi32(q[0].v, q[1].v), _mm512_packs_epi32(q[2].v, q[3].v), range);
  if (!kScrambled) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    bytes = _mm512_permutexvar_epi32(order, bytes);
  }
  _mm512_storeu_si512(out, bytes);
}
template <bool>
OE_INLINE void store_bytes(void* out, const I16 (&q)[2], const ByteRange& range) {
  const __m512i words = _mm512_packs_epi32(q[0].v, q[1].v);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512i bytes = _mm512_permutexvar_epi32(order, words_to_bytes(words, words, range));
  _mm256_storeu_si256((__m256i*)out, _mm512_castsi512_si256(bytes));
}
template <bool>
OE_INLINE void store_bytes(void* out, const I16 (&q)[1], const ByteRange& range) {
  const __m512i words = _mm512_packs_epi32(q[0].v, q[0].v);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512i bytes = _mm512_permutexvar_epi32(order, words_to_bytes(words, words, range));
  _mm_storeu_si128((__m128i*)out, _mm512_castsi512_si128(bytes));
}

// The low bytes of 4 keys x 16 queries to one dword per query. Bits 8 to 21 must be 0; those above are ignored.
OE_INLINE void store_quad(uint8_t* out, I16 k0, I16 k1, I16 k2, I16 k3) {
  const __m512i low = _mm512_set1_epi32(0xFFFF);
  const __m512i second = _mm512_slli_epi32(k1.v, 8), third = _mm512_slli_epi32(k2.v, 16);
  const __m512i first = _mm512_ternarylogic_epi32(k0.v, second, low, 0xA8);  // (key 0 | key 1) & low
  _mm512_storeu_si512(out, _mm512_ternarylogic_epi32(first, third, _mm512_slli_epi32(k3.v, 24), 0xFE));
}
