// Orders the columns of a row-gather group so that AVX2's VPMADDUBSW can multiply them exactly, and marks the quads of
// other formats, whose columns are what they are, by how it can.
//
// VPMADDUBSW multiplies u8 activations by s8 weights and adds the products of two neighboring columns in int16, where
// it saturates. With activations of at most 255, a lane stays exact as long as the weights of one sign that a row has
// in it add up to at most 128 (255 * 128 < 2^15). Two columns share a lane where each quad is widened to int32 by
// itself; four do where two quads are added in int16 first, which saves instructions:
//
//   quad A   a0 a1 | a2 a3      lane 0 adds a0 a1 b0 b1 (set 0)      lane 1 adds a2 a3 b2 b3 (set 1)
//   quad B   b0 b1 | b2 b3
//
// Sums are exact in int32, so the order of a group's columns does not change a result. Columns are therefore exchanged
// between sets until (nearly) all sets fit their lanes.
#ifndef OBERT_EDGE_PAIRING_H
#define OBERT_EDGE_PAIRING_H

#include <stddef.h>
#include <stdint.h>

namespace oe {

// The kinds of quads of a group, in the order in which they follow each other. What is left after these two kinds are
// quads that may saturate even alone, and must be multiplied another way.
struct PairedQuads {
  uint32_t by_twos;  // an even number of quads; each two of them, from the first on, can be added in int16
  uint32_t alone;    // quads that cannot saturate when each is widened to int32 by itself
};

// Orders the columns of the `quads` records (kernels.h) of one group of `rows` (1, 2 or 4) rows, in place.
PairedQuads pair_columns(uint8_t* records, size_t quads, int rows);

// Marks the `count` quads of one group of `rows` (1 or 4) rows, with weights S8 [count][rows][4]. Bit q % 8 of byte
// q / 8 of `hard` is set where quad q may saturate even alone, and of `by_twos`, unless that is nullptr, where q and
// q + 1 can be added in int16. No quad has two marks, and no two quads that belong together are in different kMarks of
// the group. Bits of other quads stay as they are. `first` is the number of the group's first quad.
void mark_quads(const int8_t* weights, size_t first, size_t count, int rows, uint8_t* hard, uint8_t* by_twos);

}  // namespace oe
#endif
