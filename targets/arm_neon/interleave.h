// Interleaving into memory. Included at the end of a dot header, which defines how activations are held (Q16, biased).

// Four channels of 16 tokens to the 64 bytes that load_quad reads.
OE_INLINE void interleave(uint8_t* out, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  const uint8x16_t rows[4] = {biased(vld1q_u8(c0)), biased(vld1q_u8(c1)), biased(vld1q_u8(c2)), biased(vld1q_u8(c3))};
  const Q16 quad = interleave_rows(rows);
  OE_UNROLL for (int i = 0; i < 4; ++i) vst1q_u8(out + 16 * i, quad.v[i]);
}

// Four channels of 16 tokens of signed bytes, which add_quad takes as weights, to one dword per token.
OE_INLINE void interleave_weights(uint8_t* out, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2,
                                  const uint8_t* c3) {
  vst4q_u8(out, (uint8x16x4_t{{vld1q_u8(c0), vld1q_u8(c1), vld1q_u8(c2), vld1q_u8(c3)}}));
}
