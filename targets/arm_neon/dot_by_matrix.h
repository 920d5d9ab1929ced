// Dot products of eight bytes with USMMLA of i8mm, which multiplies 2 tokens x 8 channels by 8 channels x 2 rows: twice
// the multiply-adds of USDOT, at the same rate. Included after dot_by_element.h, whose quads (Q16) it takes by twos; an
// odd last quad is left to that header.
//
//   x   [t0: c0 .. c7 | t1: c0 .. c7]      weights  [r0: c0 .. c7 | r1: c0 .. c7]
//   USMMLA                                 sums     [t0 r0 | t0 r1 | t1 r0 | t1 r1]
//
// x and the weights are zips of the dwords of two quads. A stripe, the queries, the keys and the probabilities are
// turned into such pairs once, in place, and read many times. Turning the sums back takes 16 unzips for 4 rows of 16
// tokens.
//
// Bound: USMMLA, 64 multiply-adds a cycle on two vector pipes (Neoverse N2), which the zips of row-gather share.

#define OE_HAS_PAIRS

// 16 tokens x 8 channels: register i holds tokens 4 i and 4 i + 1, register 4 + i holds tokens 4 i + 2 and 4 i + 3.
struct Pair {
  uint8x16_t v[8];
};
// The sums of 4 rows: for each register of a Pair one of rows 0 and 1, and one of rows 2 and 3.
struct PairSums {
  int32x4_t v[8][2];
};
// 8 weights of each of rows 0 and 1, and of each of rows 2 and 3.
struct PairWeights {
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

// Turns two quads of 64 bytes in memory into a pair in their place. The quads are of activations or of weights (4
// registers of 4 rows each).
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

// The weights of 4 rows for a pair, from those of its two quads as a bundle stores them.
OE_INLINE PairWeights pair_weights(int8x16_t first, int8x16_t second) {
  const uint8x16_t a = vreinterpretq_u8_s8(first), b = vreinterpretq_u8_s8(second);
  return {{vreinterpretq_s8_u8(low_dwords(a, b)), vreinterpretq_s8_u8(high_dwords(a, b))}};
}

// Sums that start at starts[row] for every token.
OE_INLINE PairSums start_pairs(const int32_t* starts) {
  PairSums sums;
  OE_UNROLL for (int half = 0; half < 2; ++half) {
    const int32x2_t rows = vld1_s32(starts + 2 * half);
    OE_UNROLL for (int i = 0; i < 8; ++i) sums.v[i][half] = vcombine_s32(rows, rows);
  }
  return sums;
}

// sums += the dot products of a pair.
OE_INLINE void add_pair(PairSums& sums, const Pair& x, const PairWeights& w) {
  OE_UNROLL for (int i = 0; i < 8; ++i) {
    OE_UNROLL for (int half = 0; half < 2; ++half) sums.v[i][half] = vusmmlaq_s32(sums.v[i][half], x.v[i], w.v[half]);
  }
}

// The sums of each row in token order.
OE_INLINE void unpair(const PairSums& sums, I16 (&rows)[4]) {
  OE_UNROLL for (int i = 0; i < 4; ++i) {
    OE_UNROLL for (int half = 0; half < 2; ++half) {
      rows[2 * half].v[i] = vuzp1q_s32(sums.v[i][half], sums.v[4 + i][half]);
      rows[2 * half + 1].v[i] = vuzp2q_s32(sums.v[i][half], sums.v[4 + i][half]);
    }
  }
}

// rows[r][token] = starts[r] + the dot products of `quads` quads at `x`, which pair_quads has turned into pairs, with
// the weights of 4 rows. Those are 16 bytes for each quad, `stride` bytes apart: turned, too (kTurned), or as a bundle
// stores them.
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

// sums[r][token] += the dot products of 4 x `fours` quads at `x`, which pair_quads has turned into pairs, with kRows
// rows. A row has 16 weights for each four quads, one after the other; rows are `stride` bytes apart.
template <int kRows>
OE_INLINE void add_pairs(I16 (&sums)[kRows], const uint8_t* x, const int8_t* weights, size_t stride, int32_t fours) {
  const int32_t zeros[4] = {};
  PairSums products = start_pairs(zeros);
  for (; fours > 0; --fours, x += 256, weights += 16) {
    uint64x2_t w[4];  // of fewer than 4 rows, the last one is repeated
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
