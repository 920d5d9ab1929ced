// The order of the columns of a row-gather group that VPMADDUBSW can take.
//
// It multiplies u8 by s8, and adds the products of two neighbouring columns in int16, where it saturates. Two weights of
// one row whose sum stays within +-kFits cannot get there, whatever the activations (255 * 128 < 2^15). Which columns are
// neighbours is free: sums are exact in int32. So columns are exchanged between quads until every pair fits.
//
//   record (kernels.h)   c0 c1 c2 c3 | w00 w01 w02 w03  w10 ...      pair 0: columns 0 and 1, pair 1: columns 2 and 3
#ifndef OBERT_EDGE_PAIRING_H
#define OBERT_EDGE_PAIRING_H

#include <stddef.h>
#include <stdint.h>

namespace oe {

constexpr int kFits = 128;

// Orders the columns of the `quads` records of one group of 1, 2 or 4 rows so that pairs fit, and puts the quads for which
// that was not found last. How many those are.
uint32_t pair_columns(uint8_t* records, size_t quads, int rows);

}  // namespace oe
#endif
