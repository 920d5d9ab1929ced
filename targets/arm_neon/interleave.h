// Interleaving through memory, once the kernel's dot header has said how activations are held.

// Four channels of 16 tokens to what load_quad reads: 64 bytes.
OE_INLINE void interleave(uint8_t* out, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2, const uint8_t* c3) {
  const uint8x16_t rows[4] = {biased(vld1q_u8(c0)), biased(vld1q_u8(c1)), biased(vld1q_u8(c2)), biased(vld1q_u8(c3))};
  const Q16 quad = interleave_rows(rows);
  OE_UNROLL for (int i = 0; i < 4; ++i) vst1q_u8(out + 16 * i, quad.v[i]);
}

// Four channels of 16 tokens of signed bytes to one dword per token: what add_quad takes as weights.
OE_INLINE void interleave_weights(uint8_t* out, const uint8_t* c0, const uint8_t* c1, const uint8_t* c2,
                                  const uint8_t* c3) {
  vst4q_u8(out, (uint8x16x4_t{{vld1q_u8(c0), vld1q_u8(c1), vld1q_u8(c2), vld1q_u8(c3)}}));
}
