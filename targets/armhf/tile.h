// The step that all armhf kernels multiply with: 8 lanes by up to 4 rows, whose int32 sums take 8 of 16 registers.
// Eight bytes are widened to 16 bits once and multiplied by a number of each row (VMLAL by element):
//
//   x [8 bytes]  --VMOVL-->  [8 x int16]  --VMLAL.S16 by w[row][kIndex]-->  sums[row]: low, high [4 x int32]
#ifndef OBERT_EDGE_ARMHF_TILE_H
#define OBERT_EDGE_ARMHF_TILE_H

#include <arm_neon.h>

#include "simd/macros.h"

namespace oe {
namespace armhf {

constexpr int32_t kTile = 8;  // lanes: tokens of a linear; keys, or channels of the context, of attention

template <int kRows>
struct TileSums {
  int32x4_t low[kRows], high[kRows];
};

// VLD1.8 in assembly, because clang 21 makes two loads, two stores to the stack and a load of vld1_u8.
OE_INLINE uint8x8_t load_eight(const uint8_t* p) {
  uint8x8_t x;
  __asm__("vld1.8 {%P0}, %1" : "=w"(x) : "Q"(*reinterpret_cast<const uint8_t (*)[8]>(p)));
  return x;
}

OE_INLINE int16x8_t load_wide(const uint8_t* p) { return vreinterpretq_s16_u16(vmovl_u8(load_eight(p))); }
OE_INLINE int16x8_t load_wide(const int8_t* p) {
  return vmovl_s8(vreinterpret_s8_u8(load_eight(reinterpret_cast<const uint8_t*>(p))));
}

// sums[row] += the 8 bytes at `x` times w[row][kIndex].
template <int kRows, int kIndex, class T>
OE_INLINE void add_lanes(TileSums<kRows>& sums, const T* x, const int16x4_t (&w)[kRows]) {
  const int16x8_t wide = load_wide(x);
  OE_UNROLL for (int r = 0; r < kRows; ++r) {
    sums.low[r] = vmlal_lane_s16(sums.low[r], vget_low_s16(wide), w[r], kIndex);
    sums.high[r] = vmlal_lane_s16(sums.high[r], vget_high_s16(wide), w[r], kIndex);
  }
}

}  // namespace armhf
}  // namespace oe
#endif
