// The order of the columns of a row-gather group that VPMADDUBSW can take.
//
// It multiplies u8 by s8, and adds the products of two neighboring columns in int16, where it saturates. A row's weights
// of one sign may add up to kFits before activations of 255 get there (255 * 128 < 2^15): those of two neighbors where
// each quad is widened to int32 by itself, those of four where two quads are added in int16 first. Which columns are
// neighbors is free: sums are exact in int32. So columns are exchanged until (nearly) all quads fit by twos.
//
//   quad A   a0 a1 | a2 a3      set 0: a0 a1 b0 b1     set 1: a2 a3 b2 b3     one set per lane of int16
//   quad B   b0 b1 | b2 b3
#ifndef OBERT_EDGE_PAIRING_H
#define OBERT_EDGE_PAIRING_H

#include <stddef.h>
#include <stdint.h>

namespace oe {

// How the quads of a group follow each other.
struct PairedQuads {
  uint32_t by_twos;  // quads of which each two, from the first on, can be added in int16; even
  uint32_t alone;    // then quads that cannot saturate alone; those after them may
};

// Orders the columns of the `quads` records (kernels.h) of one group of 1, 2 or 4 rows.
PairedQuads pair_columns(uint8_t* records, size_t quads, int rows);

}  // namespace oe
#endif
