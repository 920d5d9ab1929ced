// Dot products of eight bytes with USMMLA of i8mm, which multiplies 2 tokens x 8 channels by 8 channels x 2 rows: twice the
// multiply-adds of USDOT in an instruction of the same rate. Included after dot_by_element.h, whose quads (Q16) it takes by
// twos; what is left over is that header's.
//
//   x   [t0: c0 .. c7 | t1: c0 .. c7]      weights  [r0: c0 .. c7 | r1: c0 .. c7]
//   USMMLA                                 sums     [t0 r0 | t0 r1 | t1 r0 | t1 r1]
//
// Both are zips of dwords of two quads, so a stripe, the queries, the keys and the probabilities are turned once, in place,
// and read many times. Unzipping the sums costs 16 instructions for 4 rows of 16 tokens.

#define OE_HAS_PAIRS

struct Pair {  // 16 tokens x 8 channels; register i: tokens 4 i and 4 i + 1, register 4 + i: tokens 4 i + 2 and 4 i + 3
  uint8x16_t v[8];
};
struct PairSums {  // of 4 rows: registers as those of a Pair, [0] rows 0 and 1, [1] rows 2 and 3
  int32x4_t v[8][2];
};
struct PairWeights {  // 8 channels of rows 0 and 1, of rows 2 and 3
  int8x16_t v[2];
};

OE_INLINE uint8x16_t low_dwords(uint8x16_t a, uint8x16_t b) {
  return vreinterpretq_u8_u32(vzip1q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}
OE_INLINE uint8x16_t high_dwords(uint8x16_t a, uint8x16_t b) {
  return vreinterpretq_u8_u32(vzip2q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}

OE_INLINE Pair pair_of(const Q16& first, const Q16& second) {
  Pair x;
  OE_UNROLL for (int i = 0; i < 4; ++i) {
    x.v[i] = low_dwords(first.v[i], second.v[i]);
    x.v[4 + i] = high_dwords(first.v[i], second.v[i]);
  }
  return x;
}

// Two quads of 64 bytes in memory, of activations or of weights (4 registers of 4 rows), to a pair in their place.
OE_INLINE void pair_quads(uint8_t* first, uint8_t* second) {
  const Pair x = pair_of(load_quad(first), load_quad(second));
  OE_UNROLL for (int i = 0; i < 4; ++i) {
    vst1q_u8(first + 16 * i, x.v[i]);
    vst1q_u8(second + 16 * i, x.v[4 + i]);
  }
}
OE_INLINE Pair load_pair(const uint8_t* first, const uint8_t* second) {
  Pair x;
  OE_UNROLL for (int i = 0; i < 4; ++i) {
    x.v[i] = vld1q_u8(first + 16 * i);
    x.v[4 + i] = vld1q_u8(second + 16 * i);
  }
  return x;
}

// The weights of 4 rows for two quads, as a bundle has them.
OE_INLINE PairWeights pair_weights(int8x16_t first, int8x16_t second) {
  const uint8x16_t a = vreinterpretq_u8_s8(first), b = vreinterpretq_u8_s8(second);
  return {{vreinterpretq_s8_u8(low_dwords(a, b)), vreinterpretq_s8_u8(high_dwords(a, b))}};
}

// Every token's sums start at `starts`[row].
OE_INLINE PairSums start_pairs(const int32_t* starts) {
  PairSums sums;
  OE_UNROLL for (int half = 0; half < 2; ++half) {
    const int32x2_t rows = vld1_s32(starts + 2 * half);
    OE_UNROLL for (int i = 0; i < 8; ++i) sums.v[i][half] = vcombine_s32(rows, rows);
  }
  return sums;
}

OE_INLINE void add_pair(PairSums& sums, const Pair& x, const PairWeights& w) {
  OE_UNROLL for (int i = 0; i < 8; ++i) {
    OE_UNROLL for (int half = 0; half < 2; ++half) sums.v[i][half] = vusmmlaq_s32(sums.v[i][half], x.v[i], w.v[half]);
  }
}

OE_INLINE void unpair(const PairSums& sums, I16 (&rows)[4]) {
  OE_UNROLL for (int i = 0; i < 4; ++i) {
    OE_UNROLL for (int half = 0; half < 2; ++half) {
      rows[2 * half].v[i] = vuzp1q_s32(sums.v[i][half], sums.v[4 + i][half]);
      rows[2 * half + 1].v[i] = vuzp2q_s32(sums.v[i][half], sums.v[4 + i][half]);
    }
  }
}

// rows[r][token] = starts[r] + the dot products of `quads` quads of 64 bytes, the pairs of them turned by pair_quads, with
// weights that are 16 bytes for each quad at `stride`: turned, too, or (kTurned false) as a bundle has them.
template <bool kTurned>
OE_INLINE void dot_pairs(I16 (&rows)[4], const int32_t* starts, const uint8_t* x, const int8_t* weights, size_t stride,
                         size_t quads) {
  PairSums sums = start_pairs(starts);
  OE_UNROLL_2 for (; quads >= 2; quads -= 2, x += 128, weights += 2 * stride) {
    const int8x16_t first = vld1q_s8(weights), second = vld1q_s8(weights + stride);
    const PairWeights turned = {{first, second}};
    add_pair(sums, load_pair(x, x + 64), kTurned ? turned : pair_weights(first, second));
  }
  unpair(sums, rows);
  if (quads > 0) dot_rows<4>(rows, load_quad(x), vld1q_s8(weights));
}

// sums[r][token] += the dot products of `fours` fours of turned quads at `x` with 16 bytes of each of kRows rows for each
// four, `stride` bytes apart.
template <int kRows>
OE_INLINE void add_pairs(I16 (&sums)[kRows], const uint8_t* x, const int8_t* weights, size_t stride, int32_t fours) {
  const int32_t zeros[4] = {};
  PairSums products = start_pairs(zeros);
  for (; fours > 0; --fours, x += 256, weights += 16) {
    uint64x2_t w[4];  // of fewer than 4 rows, the last again
    OE_UNROLL for (int r = 0; r < 4; ++r) {
      w[r] = vreinterpretq_u64_s8(vld1q_s8(weights + static_cast<size_t>(r < kRows ? r : kRows - 1) * stride));
    }
    OE_UNROLL for (int half = 0; half < 2; ++half) {
      const uint64x2_t low = half ? vzip2q_u64(w[0], w[1]) : vzip1q_u64(w[0], w[1]);
      const uint64x2_t high = half ? vzip2q_u64(w[2], w[3]) : vzip1q_u64(w[2], w[3]);
      add_pair(products, load_pair(x + 128 * half, x + 128 * half + 64),
               {{vreinterpretq_s8_u64(low), vreinterpretq_s8_u64(high)}});
    }
  }
  I16 rows[4];
  unpair(products, rows);
  OE_UNROLL for (int r = 0; r < kRows; ++r) sums[r] = sums[r] + rows[r];
}
