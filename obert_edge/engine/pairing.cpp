#include "pairing.h"

#include <string.h>

#include "kernels.h"

namespace oe {
namespace {

// Other pairs a column is tried in. The groups of trained and of random layers need some two; a group of nothing but large
// weights of one sign has no order that fits, and is given up soon.
constexpr size_t kTries = 64;

template <int kRows>
struct Group {
  static constexpr size_t kRecord = kColumnsOfRecord + 4 * kRows;
  using Words = int16_t __attribute__((vector_size(4 * kRows)));  // of a quad: row 0 pair 0, row 0 pair 1, row 1 ...

  uint8_t* records;

  uint8_t* record(size_t quad) const { return records + quad * kRecord; }
  int8_t* weights(size_t column) const {  // of row 0; the next row's are 4 bytes on
    return reinterpret_cast<int8_t*>(record(column / 4) + kColumnsOfRecord + column % 4);
  }

  bool fit(size_t column, size_t other) const {
    const int8_t *w = weights(column), *v = weights(other);
    bool all = true;
    for (int row = 0; row < kRows; ++row) {
      const int sum = w[4 * row] + v[4 * row];
      all &= sum >= -kFits && sum <= kFits;
    }
    return all;
  }

  // Which of a quad's pairs do not fit: bit 0 and bit 1.
  uint32_t misfits(size_t quad) const {
    Words both;
    memcpy(&both, record(quad) + kColumnsOfRecord, sizeof both);
    const Words sums = ((both << 8) >> 8) + (both >> 8);
    const Words wrong = (sums > kFits) | (sums < -kFits);
    uint32_t rows[kRows], any = 0;
    memcpy(rows, &wrong, sizeof rows);
    for (int row = 0; row < kRows; ++row) any |= rows[row];
    return (any & 1) | (any >> 30 & 2);
  }

  void exchange(size_t column, size_t other) const {
    uint16_t at, with;
    uint8_t *first = record(column / 4) + 2 * (column % 4), *second = record(other / 4) + 2 * (other % 4);
    memcpy(&at, first, sizeof at);
    memcpy(&with, second, sizeof with);
    memcpy(first, &with, sizeof with);
    memcpy(second, &at, sizeof at);
    int8_t *w = weights(column), *v = weights(other);
    for (int row = 0; row < kRows; ++row) {
      const int8_t weight = w[4 * row];
      w[4 * row] = v[4 * row];
      v[4 * row] = weight;
    }
  }

  // Finds `pair` another second column, in exchange for its own, such that both pairs fit.
  bool mend(size_t pair, size_t pairs) const {
    const size_t first = 2 * pair, second = first + 1;
    size_t other = pair;
    for (size_t tries = pairs - 1 < kTries ? pairs - 1 : kTries; tries > 0; --tries) {
      if (++other == pairs) other = 0;
      for (size_t side = 0; side < 2; ++side) {
        const size_t theirs = 2 * other + side, left = 2 * other + 1 - side;
        if (fit(first, theirs) && fit(second, left)) {
          exchange(second, theirs);
          return true;
        }
      }
    }
    return false;
  }

  uint32_t order(size_t quads) const {
    for (size_t quad = 0; quad < quads; ++quad) {
      const uint32_t wrong = misfits(quad);
      if (wrong & 1) mend(2 * quad, 2 * quads);
      if (wrong & 2) mend(2 * quad + 1, 2 * quads);
    }
    size_t fitting = quads;
    for (size_t quad = 0; quad < fitting;) {
      if (!misfits(quad)) {
        ++quad;
        continue;
      }
      uint8_t misfit[kRecord];
      --fitting;
      memcpy(misfit, record(quad), kRecord);
      memcpy(record(quad), record(fitting), kRecord);
      memcpy(record(fitting), misfit, kRecord);
    }
    return static_cast<uint32_t>(quads - fitting);
  }
};

}  // namespace

uint32_t pair_columns(uint8_t* records, size_t quads, int rows) {
  if (rows == 4) return Group<4>{records}.order(quads);
  if (rows == 2) return Group<2>{records}.order(quads);
  return Group<1>{records}.order(quads);
}

}  // namespace oe
