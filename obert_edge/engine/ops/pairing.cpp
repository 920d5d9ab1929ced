#include "ops/pairing.h"

#include <string.h>

#include "kernels/kernels.h"

namespace oe {
namespace {

constexpr int kFits = 128;            // what the weights of one sign may add up to in a lane: 255 * 128 < 2^15
constexpr size_t kMaxColumns = 4096;  // a larger group keeps its order, and its quads count as those that may saturate
constexpr size_t kTries = 20;         // sets to try exchanges with, for each set that does not fit
constexpr size_t kKeys = 64;          // sizes that deal() tells apart

// What the weights of a column, or of a set of columns, add up to: lanes 0 to 3 hold the sum of the positive weights of
// rows 0 to 3, lanes 4 to 7 the sum of the magnitudes of their negative weights.
using Parts = int16_t __attribute__((vector_size(16)));
using Weights = int8_t __attribute__((vector_size(16)));  // 4 columns x 4 rows
using FourColumns = uint32_t __attribute__((vector_size(16)));

// The sum of all lanes, none of which may be negative.
uint32_t sum(Parts parts) {
  uint64_t halves[2];
  memcpy(halves, &parts, sizeof halves);
  return static_cast<uint32_t>((halves[0] + halves[1]) * 0x0001000100010001u >> 48);
}

// How far each lane exceeds kFits; 0 where it does not. A set fits its lane of int16 when all of these are 0.
Parts over(Parts sums) {
  const Parts by = sums - static_cast<int16_t>(kFits);
  return by & (by > 0);
}

bool fits(Parts sums) {
  const Parts by = over(sums);
  uint64_t halves[2];
  memcpy(halves, &by, sizeof halves);
  return (halves[0] | halves[1]) == 0;
}

// Weights [row][column] to [column][row], and back.
Weights transpose(Weights x) {
  return __builtin_shufflevector(x, x, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}

// The parts of one column, from its weights for the four rows.
Parts parts_of(uint32_t four) {
  using FourBytes = int8_t __attribute__((vector_size(4)));
  using FourWords = int16_t __attribute__((vector_size(8)));
  FourBytes bytes;
  memcpy(&bytes, &four, sizeof bytes);
  const FourWords words = __builtin_convertvector(bytes, FourWords);
  const Parts both = __builtin_shufflevector(words, -words, 0, 1, 2, 3, 4, 5, 6, 7);
  return both & (both > 0);
}

// One group of kRows rows, whose columns are dealt to sets of four and written back as records.
template <int kRows>
class Group {
 public:
  Group(uint8_t* records, size_t quads) : records_(records), quads_(quads) {}

  PairedQuads order() {
    if (4 * quads_ > kMaxColumns) return {0, 0};
    read();
    deal();
    for (size_t set = 0; set < sets_; ++set) mend(set);
    return write();
  }

 private:
  static constexpr size_t kRecord = kColumnsOfRecord + 4 * kRows;
  using Set = uint16_t[4];

  void read() {
    for (size_t quad = 0; quad < quads_; ++quad) {
      const uint8_t* record = records_ + quad * kRecord;
      memcpy(columns_ + 4 * quad, record, kColumnsOfRecord);
      Weights weights = {};
      memcpy(&weights, record + kColumnsOfRecord, 4 * kRows);
      weights = transpose(weights);
      memcpy(weights_ + 4 * quad, &weights, sizeof weights);
      const FourColumns four = reinterpret_cast<FourColumns>(weights);
      for (size_t i = 0; i < 4; ++i) parts_[4 * quad + i] = parts_of(four[i]);
    }
  }

  // Deals columns to sets so that their sums are about equal: columns are sorted by size and dealt to and fro, so that
  // every set gets one of the largest and one of the smallest. Sets come in pairs (two quads make two sets); of an odd
  // number of quads, the four smallest columns stay out and make the last quad.
  void deal() {
    const size_t columns = 4 * quads_;
    uint32_t begin[kKeys + 1] = {};
    for (size_t i = 0; i < columns; ++i) {
      keys_[i] = key(i);
      ++begin[keys_[i] + 1];
    }
    for (size_t k = 0; k < kKeys; ++k) begin[k + 1] += begin[k];
    for (size_t i = 0; i < columns; ++i) sorted_[begin[keys_[i]]++] = static_cast<uint16_t>(i);
    sets_ = quads_ / 2 * 2;
    const uint16_t* next = sorted_;
    for (size_t round = 0; round < 4; ++round) {
      for (size_t place = 0; place < sets_; ++place, ++next) {
        const size_t set = round % 2 == 0 ? place : sets_ - 1 - place;
        members_[set][round] = *next;
        sums_[set] = round == 0 ? parts_[*next] : sums_[set] + parts_[*next];
      }
    }
  }

  // The sorting key of a column, smallest for the largest column: one of kKeys steps of the sum of its magnitudes.
  uint8_t key(size_t column) const {
    const uint32_t size = sum(parts_[column]) * static_cast<uint32_t>(kKeys) / (128 * kRows + 1);
    return static_cast<uint8_t>(kKeys - 1 - size);
  }

  // Exchanges columns of a set that does not fit with those of up to kTries other sets, as long as that lowers the
  // total excess over kFits. For each other set, four exchanges are tried and the best is taken, without branches
  // because which one wins is as good as random.
  void mend(size_t set) {
    if (fits(sums_[set])) return;
    const size_t tries = sets_ - 1 < kTries ? sets_ - 1 : kTries;
    for (size_t i = 1, other = set; i <= tries; ++i) {
      if (++other == sets_) other = 0;
      const Parts own = sums_[set], theirs = sums_[other];
      const uint32_t now = sum(over(own) + over(theirs)) << 2;
      uint32_t best = now;  // the least excess so far, and in its two low bits the exchange that leads there
      Parts changes[4];
      for (uint32_t at = 0; at < 4; ++at) {
        changes[at] = parts_[members_[other][(at + i) % 4]] - parts_[members_[set][at]];
        const uint32_t then = sum(over(own + changes[at]) + over(theirs - changes[at])) << 2 | at;
        best = then < best ? then : best;
      }
      if (best == now) continue;
      const size_t at = best & 3;
      uint16_t &mine = members_[set][at], &taken = members_[other][(at + i) % 4];
      sums_[set] = own + changes[at];
      sums_[other] = theirs - changes[at];
      const uint16_t column = mine;
      mine = taken;
      taken = column;
      if (fits(sums_[set])) return;
    }
  }

  bool fit(const uint16_t* pair) const { return fits(parts_[pair[0]] + parts_[pair[1]]); }

  // Orders the four columns of a set so that each of its two pairs fits a lane alone, where some order does.
  void pair_set(Set& set) const {
    for (int swaps = 0; swaps < 2 && !(fit(set) && fit(set + 2)); ++swaps) {  // 01 23, 02 13, 03 12
      const uint16_t column = set[1];
      set[1] = set[2 + swaps];
      set[2 + swaps] = column;
    }
  }

  // Writes one record from two pairs of columns. It is put together in registers, because a wide load after narrow
  // stores to the same bytes stalls until those have left the store buffer.
  void put(uint8_t* record, const uint16_t* pair, const uint16_t* other) const {
    const size_t quad[4] = {pair[0], pair[1], other[0], other[1]};
    uint64_t columns = 0;
    FourColumns weights = {};
    for (int i = 0; i < 4; ++i) {
      columns |= uint64_t{columns_[quad[i]]} << 16 * i;
      weights[i] = weights_[quad[i]];
    }
    const Weights transposed = transpose(reinterpret_cast<Weights>(weights));
    memcpy(record, &columns, sizeof columns);
    memcpy(record + kColumnsOfRecord, &transposed, 4 * kRows);
  }

  // Writes all records: the sets that fit by twos, then from the front the quads that fit alone and from the back the
  // others.
  PairedQuads write() {
    size_t good = 0;  // sets that fit; they are moved to the front
    for (size_t set = 0; set < sets_; ++set) {
      if (!fits(sums_[set])) continue;
      Set kept;
      memcpy(kept, members_[good], sizeof kept);
      memcpy(members_[good], members_[set], sizeof kept);
      memcpy(members_[set], kept, sizeof kept);
      sums_[set] = sums_[good];
      ++good;
    }
    const size_t by_twos = good / 2 * 2;
    size_t alone = by_twos, end = quads_;
    const auto place = [&](const uint16_t* pair, const uint16_t* other) {
      put(records_ + (fit(pair) && fit(other) ? alone++ : --end) * kRecord, pair, other);
    };
    for (size_t set = 0; set < sets_; set += 2) {
      Set &first = members_[set], &second = members_[set + 1];
      if (set < by_twos) {
        put(records_ + set * kRecord, first, second);
        put(records_ + (set + 1) * kRecord, first + 2, second + 2);
      } else {
        pair_set(first);
        pair_set(second);
        place(first, second);
        place(first + 2, second + 2);
      }
    }
    if (quads_ > sets_) place(sorted_ + 4 * sets_, sorted_ + 4 * sets_ + 2);
    return {static_cast<uint32_t>(by_twos), static_cast<uint32_t>(alone - by_twos)};
  }

  uint8_t* records_;
  size_t quads_, sets_ = 0;
  uint16_t columns_[kMaxColumns];
  uint32_t weights_[kMaxColumns];  // of each column: one byte per row
  Parts parts_[kMaxColumns];
  uint8_t keys_[kMaxColumns];
  uint16_t sorted_[kMaxColumns];
  Set members_[kMaxColumns / 4];
  Parts sums_[kMaxColumns / 4];
};

// What the two weights of each lane add up to in a quad of up to four rows: those of one sign apart from the others, as
// magnitudes.
struct Lanes {
  Parts positive, negative;

  explicit Lanes(Weights sixteen) {
    const Parts pairs = reinterpret_cast<Parts>(sixteen), even = pairs << 8 >> 8, odd = pairs >> 8;
    positive = (even & (even > 0)) + (odd & (odd > 0));
    negative = positive - (even + odd);
  }
};

template <int kRows>
void mark_group(const int8_t* weights, size_t first, size_t count, uint8_t* hard, uint8_t* by_twos) {
  const auto lanes = [&](size_t quad) {
    Weights sixteen = {};
    memcpy(&sixteen, weights + 4 * kRows * quad, 4 * kRows);
    return Lanes(sixteen);
  };
  const auto mark = [&](uint8_t* marks, size_t quad) {
    marks[(first + quad) / 8] = static_cast<uint8_t>(marks[(first + quad) / 8] | 1u << (first + quad) % 8);
  };
  for (size_t quad = 0; quad < count; ++quad) {
    const Lanes own = lanes(quad);
    if (by_twos && quad + 1 < count && (quad + 1) % kMarks != 0) {
      const Lanes next = lanes(quad + 1);
      if (fits(own.positive + next.positive) && fits(own.negative + next.negative)) {
        mark(by_twos, quad++);
        continue;
      }
    }
    if (!(fits(own.positive) && fits(own.negative))) mark(hard, quad);
  }
}

}  // namespace

PairedQuads pair_columns(uint8_t* records, size_t quads, int rows) {
  if (rows == 4) return Group<4>(records, quads).order();
  if (rows == 2) return Group<2>(records, quads).order();
  return Group<1>(records, quads).order();
}

void mark_quads(const int8_t* weights, size_t first, size_t count, int rows, uint8_t* hard, uint8_t* by_twos) {
  return rows == 4 ? mark_group<4>(weights, first, count, hard, by_twos)
                   : mark_group<1>(weights, first, count, hard, by_twos);
}

}  // namespace oe
