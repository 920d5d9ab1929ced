#include "ops/pairing.h"

#include <string.h>

#include "kernels/kernels.h"

namespace oe {
namespace {

constexpr int kFits = 128;
constexpr size_t kMaxColumns = 4096;  // of a group, those of a larger one are left as they are
constexpr size_t kTries = 20;         // other sets a set's columns are tried in: more find little more
constexpr size_t kKeys = 64;

// What a column, or a set of them, adds up to: of each of up to four rows the positive weights, then the negative ones.
using Parts = int16_t __attribute__((vector_size(16)));
using Weights = int8_t __attribute__((vector_size(16)));  // of four columns
using FourColumns = uint32_t __attribute__((vector_size(16)));

uint32_t sum(Parts parts) {  // of what is not negative
  uint64_t halves[2];
  memcpy(halves, &parts, sizeof halves);
  return static_cast<uint32_t>((halves[0] + halves[1]) * 0x0001000100010001u >> 48);
}

// By how much each sum is too large.
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

// [4][4] to [4][4].
Weights transpose(Weights x) { return __builtin_shufflevector(x, x, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15); }

Parts parts_of(uint32_t four) {
  using FourBytes = int8_t __attribute__((vector_size(4)));
  using FourWords = int16_t __attribute__((vector_size(8)));
  FourBytes bytes;
  memcpy(&bytes, &four, sizeof bytes);
  const FourWords words = __builtin_convertvector(bytes, FourWords);
  const Parts both = __builtin_shufflevector(words, -words, 0, 1, 2, 3, 4, 5, 6, 7);
  return both & (both > 0);
}

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

  // Large columns to one set each, small ones beside them: sorted by size, and dealt to and fro. Of an odd number of quads
  // the one of the smallest columns is left over.
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

  // The largest first.
  uint8_t key(size_t column) const {
    const uint32_t size = sum(parts_[column]) * static_cast<uint32_t>(kKeys) / (128 * kRows + 1);
    return static_cast<uint8_t>(kKeys - 1 - size);
  }

  // Exchanges columns with other sets while that takes from what is too much: with each of them the best of four exchanges,
  // chosen without branches, which nothing could predict.
  void mend(size_t set) {
    if (fits(sums_[set])) return;
    const size_t tries = sets_ - 1 < kTries ? sets_ - 1 : kTries;
    for (size_t i = 1, other = set; i <= tries; ++i) {
      if (++other == sets_) other = 0;
      const Parts own = sums_[set], theirs = sums_[other];
      const uint32_t now = sum(over(own) + over(theirs)) << 2;
      uint32_t best = now;  // what is too much, and in its low bits which exchange leaves that
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

  // Orders a set of four so that both pairs fit, if they can.
  void pair_set(Set& set) const {
    for (int swaps = 0; swaps < 2 && !(fit(set) && fit(set + 2)); ++swaps) {  // 01 23, then 02 13, then 03 12
      const uint16_t column = set[1];
      set[1] = set[2 + swaps];
      set[2 + swaps] = column;
    }
  }

  void put(uint8_t* record, const uint16_t* pair, const uint16_t* other) const {
    // Put together in registers: a wide load of narrow stores would wait for them.
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

  PairedQuads write() {
    size_t good = 0;  // sets that fit, to the front
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
  uint32_t weights_[kMaxColumns];  // a byte of each row
  Parts parts_[kMaxColumns];
  uint8_t keys_[kMaxColumns];
  uint16_t sorted_[kMaxColumns];
  Set members_[kMaxColumns / 4];
  Parts sums_[kMaxColumns / 4];
};

}  // namespace

PairedQuads pair_columns(uint8_t* records, size_t quads, int rows) {
  if (rows == 4) return Group<4>(records, quads).order();
  if (rows == 2) return Group<2>(records, quads).order();
  return Group<1>(records, quads).order();
}

}  // namespace oe
