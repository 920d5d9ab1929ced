// The transposition of 16 x 16 bytes, for the embedding. Included inside an anonymous namespace by a kernel file.

// out[c][t] = rows[t][c], by four rounds of unpacking. Each round doubles the number of rows whose bytes lie side by
// side:
//
//   rows  a0 a1 a2 ..    b0 b1 b2 ..   --unpack-->   a0 b0 a1 b1 ..   --unpack with c, d-->   a0 c0 b0 d0 ..
OE_INLINE void transpose_16x16(const int8_t* const (&rows)[16], int8_t (&out)[16][16]) {
  __m128i x[16], y[16];
  OE_UNROLL for (int i = 0; i < 16; ++i) x[i] = _mm_loadu_si128((const __m128i*)rows[i]);
  OE_UNROLL for (int round = 0; round < 4; ++round) {
    OE_UNROLL for (int i = 0; i < 8; ++i) {
      y[2 * i] = _mm_unpacklo_epi8(x[i], x[i + 8]);
      y[2 * i + 1] = _mm_unpackhi_epi8(x[i], x[i + 8]);
    }
    OE_UNROLL for (int i = 0; i < 16; ++i) x[i] = y[i];
  }
  OE_UNROLL for (int i = 0; i < 16; ++i) _mm_store_si128((__m128i*)out[i], x[i]);
}
