#include "ops/prepacked.h"

#include <string.h>

#include "obert_edge.h"
#include "ops/pairing.h"
#include "base/status.h"

namespace oe {
namespace {

Format format_of(const Op& op) { return static_cast<Format>(op.ints[linear_op::kFormat]); }

bool is_row_gather(const Op& op) { return is_sparse(format_of(op)) && block_of(format_of(op)) == 1; }

bool has_masks(const Op& op) {
  return static_cast<ColumnCoding>(op.ints[linear_op::kColumnCoding]) == ColumnCoding::Masks;
}

// Bytes of the weights of one record, and of a whole record.
size_t weight_bytes(const Op& op) { return is_row_gather(op) ? 4 * static_cast<size_t>(rows_of(format_of(op))) : 16; }
size_t record_bytes(const Op& op) { return kColumnsOfRecord + weight_bytes(op); }

// The number of blocks of the longest of the four groups from `group` on: as many records hold all four.
uint32_t longest_of_four(const uint32_t* offsets, int32_t groups, int32_t group) {
  uint32_t longest = 0;
  for (int32_t g = group; g < group + 4 && g < groups; ++g) {
    const uint32_t count = offsets[g + 1] - offsets[g];
    longest = count > longest ? count : longest;
  }
  return longest;
}

// The number of quads (row-gather, dense) or blocks (1x4) that a linear stores.
uint64_t stored_of(const Program& program, const Op& op) {
  const uint64_t groups = static_cast<uint64_t>(op.ints[linear_op::kGroups]);
  if (!is_sparse(format_of(op))) return groups * ((static_cast<uint64_t>(op.ints[linear_op::kK]) + 3) / 4);
  return program.constant<uint32_t>(op.consts[linear_op::kOffsets])[op.ints[linear_op::kGroups]];
}

// For every value of a byte, the positions of the bits that are set in it. A table replaces a branch per bit of a mask,
// which would be mispredicted about as often as not.
struct BitsOfBytes {
  static constexpr size_t kMost = 8;  // positions of one byte
  uint16_t places[256][kMost] = {};
  uint8_t count[256] = {};

  constexpr BitsOfBytes() {
    for (int byte = 0; byte < 256; ++byte) {
      for (uint16_t bit = 0; bit < kMost; ++bit) {
        if (byte >> bit & 1) places[byte][count[byte]++] = bit;
      }
    }
  }
};
constexpr BitsOfBytes kBits;

// Writes the positions of the bits set in a mask of `bytes` bytes, each times 2^shift, and returns the end of what
// counts. Because the positions of a byte are stored eight at a time, up to BitsOfBytes::kMost entries beyond the end
// are written.
uint16_t* list_mask(const uint8_t* mask, size_t bytes, int shift, uint16_t* out) {
  using Places = uint16_t __attribute__((vector_size(2 * BitsOfBytes::kMost)));
  Places before = {};  // the number of bits in the bytes before this one, which its positions start from
  for (size_t at = 0; at < bytes; ++at) {
    Places places;
    memcpy(&places, kBits.places[mask[at]], sizeof places);
    places = (places + before) << static_cast<uint16_t>(shift);
    memcpy(out, &places, sizeof places);
    before += static_cast<uint16_t>(8);
    out += kBits.count[mask[at]];
  }
  return out;
}

// Reads the columns of one group after the other as lists, whether a bundle stores them as lists or as masks.
class Lists {
 public:
  Lists(const Program& program, const Op& op)
      : listed_(program.constant<uint16_t>(op.consts[linear_op::kColumns])),
        mask_(program.constant<uint8_t>(op.consts[linear_op::kColumns])),
        bytes_(mask_bytes(format_of(op), op.ints[linear_op::kK])),
        shift_(block_of(format_of(op)) == 4 ? 2 : 0),
        masks_(has_masks(op)) {}

  // Copies the next `count` columns to `out`. Those that fill up a group's last quad are 0, as their weights are. `out`
  // needs room for BitsOfBytes::kMost more, which list_mask may write.
  void take(size_t count, uint16_t* out) {
    if (!masks_) {
      if (count > 0) memcpy(out, listed_, count * sizeof *out);
      listed_ += count;
      return;
    }
    uint16_t* end = list_mask(mask_, bytes_, shift_, out);
    while (end < out + count) *end++ = 0;
    mask_ += bytes_;
  }

 private:
  const uint16_t* listed_;
  const uint8_t* mask_;
  size_t bytes_;
  int shift_;
  bool masks_;
};

constexpr uint64_t kMostGrowth = 16;           // of the weights, in bytes for a byte
constexpr int32_t kFurthestSame = 256;         // ops between two linears that are known to have the same weights
constexpr uint64_t kMostBesideOfOp = 1 << 10;  // bytes that an op may take beside what grows with its weights

// Writes the records of the `count` quads of one row-gather group, from its columns and its weights.
template <size_t kWeights>
void write_records(const uint16_t* columns, const int8_t* weights, size_t count, int shift, uint8_t* record) {
  for (size_t quad = 0; quad < count; ++quad, columns += 4, weights += kWeights) {
    uint64_t four;
    memcpy(&four, columns, sizeof four);
    four <<= shift;  // all four at once: shifted columns still fit 16 bits (column_shift), so none reaches the next
    memcpy(record, &four, sizeof four);
    memcpy(record + kColumnsOfRecord, weights, kWeights);
    record += kColumnsOfRecord + kWeights;
  }
}

// Writes `bias` times the sum of the weights of each of a group's rows, at most 4, which are [bytes / (4 rows)][rows][4].
// Of 65,535 weights that is at most 128 * 128 * 65,535, which fits an int32.
void write_terms(const int8_t* weights, size_t bytes, size_t rows, int32_t bias, int32_t* terms) {
  using Bytes = int8_t __attribute__((vector_size(16)));
  using Sums = int32_t __attribute__((vector_size(64)));
  Sums sums = {};  // of byte i of 16: it belongs to row i / 4 modulo `rows`
  while (bytes > 0) {
    const size_t now = bytes < 16 ? bytes : 16;
    Bytes some = {};
    memcpy(&some, weights, now);
    sums += __builtin_convertvector(some, Sums);
    weights += now;
    bytes -= now;
  }
  for (size_t row = 0; row < rows; ++row) terms[row] = 0;
  for (size_t i = 0; i < 16; ++i) terms[i / 4 % rows] += bias * sums[i];
}

using WriteRecordsFn = void (*)(const uint16_t*, const int8_t*, size_t, int, uint8_t*);
WriteRecordsFn write_records_of(size_t weights) {
  return weights == 16 ? write_records<16> : weights == 8 ? write_records<8> : write_records<4>;
}

}  // namespace

Prepacked::Made Prepacked::made_of(const Op& op) const {
  if (op.kind != OpKind::Linear || !is_sparse(format_of(op))) return Made::Nothing;
  if (kinds_ == Records::All || (kinds_ == Records::PairedRowGather && is_row_gather(op))) return Made::Records;
  return has_masks(op) ? Made::Columns : Made::Nothing;
}

// Whether the quads of an op are marked.
bool Prepacked::is_marked(const Op& op) const {
  return kinds_ == Records::PairedRowGather && op.kind == OpKind::Linear && !is_row_gather(op);
}

// Bytes of the columns as lists, where they are made.
uint64_t Prepacked::column_bytes(const Op& op, Made made) const {
  if (made != Made::Columns) return 0;
  return stored_of(*program_, op) * static_cast<uint64_t>(numbers_of_quad(format_of(op))) * sizeof(uint16_t);
}

// Bytes of one kind of marks of an op that has some.
uint64_t Prepacked::mark_bytes(const Op& op) const { return stored_of(*program_, op) / 8 + sizeof(uint64_t); }

// Bytes of an op's bias terms, with which its place begins.
uint64_t Prepacked::term_bytes(const Op& op) const {
  if (bias_ == 0 || op.kind != OpKind::Linear) return 0;
  const uint64_t rows =
      static_cast<uint64_t>(op.ints[linear_op::kGroups]) * static_cast<uint64_t>(rows_of(format_of(op)));
  return (rows * sizeof(int32_t) + 63) / 64 * 64;
}

uint64_t Prepacked::bytes_of(const Op& op, const Place& place) const {
  const uint64_t terms = term_bytes(op);
  if (place.made == Made::Records) {
    return terms + (place.records + kRecordsBeyond) * record_bytes(op) + offsets_of(op) * sizeof(uint32_t);
  }
  const uint64_t columns = column_bytes(op, place.made);
  return terms + (is_marked(op) ? columns + (is_sparse(format_of(op)) ? 2 : 1) * mark_bytes(op) : columns);
}

// The numbers in LinearArgs::record_offsets.
uint64_t Prepacked::offsets_of(const Op& op) const {
  const uint64_t groups = static_cast<uint64_t>(op.ints[linear_op::kGroups]);
  if (!is_row_gather(op)) return (groups + 3) / 4 + 1;
  return kinds_ == Records::PairedRowGather ? 2 * groups : 0;
}

uint64_t Prepacked::records_of(const Op& op) const {
  if (is_row_gather(op)) return stored_of(*program_, op);
  const uint32_t* offsets = program_->constant<uint32_t>(op.consts[linear_op::kOffsets]);
  const int32_t groups = op.ints[linear_op::kGroups];
  uint64_t records = 0;
  for (int32_t group = 0; group < groups; group += 4) records += longest_of_four(offsets, groups, group);
  return records;
}

// A linear shortly before this one, or none, that has the same weights in the same format: layers that share weights.
const Op* Prepacked::same_weights_before(const Op& op) const {
  if (op.kind != OpKind::Linear) return nullptr;
  const Op* first = program_->ops.data();
  const int32_t consts[] = {linear_op::kOffsets, linear_op::kColumns, linear_op::kWeights};
  const int32_t ints[] = {linear_op::kK, linear_op::kN, linear_op::kGroups, linear_op::kFormat,
                          linear_op::kColumnCoding};
  for (const Op* other = &op; other != first && &op - other < kFurthestSame;) {
    --other;
    bool same = other->kind == OpKind::Linear;
    for (const int32_t index : consts) same = same && other->consts[index] == op.consts[index];
    for (const int32_t index : ints) same = same && other->ints[index] == op.ints[index];
    if (same) return other;
  }
  return nullptr;
}

int32_t Prepacked::prepack(const Program& program, const Implementation& implementation, ThreadPool& pool) {
  program_ = &program;
  kinds_ = implementation.records;
  bias_ = implementation.activation_bias;
  if (!places_.allocate(program.ops.size())) return fail(OE_OUT_OF_MEMORY, "no memory for the places of weights");
  uint64_t total = 0;
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    const Op* same = same_weights_before(op);
    if (same) {
      places_[i] = place_of(*same);
      places_[i].filled_elsewhere = true;
      continue;
    }
    const Made made = made_of(op);
    places_[i] = {total, made == Made::Records ? records_of(op) : 0, made, false};
    total += (bytes_of(op, places_[i]) + 63) / 64 * 64;
  }
  if (total == 0) return OE_OK;
  // A record takes at most three times what is stored of it, and four times as much again where groups of four differ;
  // bias terms take a third of a linear's scales, biases and corrections. More comes of ops that share constants and are
  // not the same linear: a small file would take gigabytes.
  const uint64_t most = kMostGrowth * program.weights_bytes + kMostBesideOfOp * program.ops.size();
  if (total > most) {
    return fail(OE_INVALID_PROGRAM,
                "its linears would take %llu bytes as the kernels read them; weights of %llu bytes need at most %llu",
                static_cast<unsigned long long>(total), static_cast<unsigned long long>(program.weights_bytes),
                static_cast<unsigned long long>(most));
  }
  if (total > SIZE_MAX || !memory_.reserve(static_cast<size_t>(total), true)) {
    return fail(OE_OUT_OF_MEMORY, "no memory for the %llu bytes of weights as the kernels read them",
                static_cast<unsigned long long>(total));
  }
  pool.parallel_for(
      static_cast<int32_t>(program.ops.size()),
      [](void* context, int32_t task, int32_t) {
        Prepacked& self = *static_cast<Prepacked*>(context);
        self.fill(self.program_->ops[static_cast<size_t>(task)]);
      },
      this);
  return OE_OK;
}

void Prepacked::fill(const Op& op) {
  const Place& place = place_of(op);
  if (place.filled_elsewhere) return;
  if (term_bytes(op) > 0) add_terms(op);
  if (is_marked(op)) mark(op);
  if (place.made == Made::Nothing) return;
  uint8_t* out = const_cast<uint8_t*>(made_at(op));
  if (place.made == Made::Records && !is_row_gather(op)) {
    return fill_blocks(op, out, const_cast<uint32_t*>(record_offsets(op)));
  }
  Lists lists(*program_, op);
  const uint32_t* offsets = program_->constant<uint32_t>(op.consts[linear_op::kOffsets]);
  const int8_t* weights = program_->constant<int8_t>(op.consts[linear_op::kWeights]);
  const size_t bytes = weight_bytes(op), listed = static_cast<size_t>(numbers_of_quad(format_of(op)));
  const int shift = column_shift(op.ints[linear_op::kK]);
  const WriteRecordsFn write_records = write_records_of(bytes);
  uint32_t* paired = const_cast<uint32_t*>(record_offsets(op));
  uint16_t columns[kMaxColumnsOfGroup + BitsOfBytes::kMost];
  for (int32_t group = 0; group < op.ints[linear_op::kGroups]; ++group) {
    const size_t stored = offsets[group + 1] - offsets[group];
    lists.take(stored * listed, columns);
    if (place.made == Made::Columns) {
      if (stored > 0) memcpy(out, columns, stored * listed * sizeof *columns);
      out += stored * listed * sizeof *columns;
      continue;
    }
    write_records(columns, weights, stored, shift, out);
    if (paired) {
      const PairedQuads quads = pair_columns(out, stored, rows_of(format_of(op)));
      *paired++ = quads.by_twos;
      *paired++ = quads.alone;
    }
    weights += stored * bytes;
    out += stored * record_bytes(op);  // the kRecordsBeyond records after the last group stay zero
  }
}

void Prepacked::add_terms(const Op& op) {
  const size_t rows = static_cast<size_t>(rows_of(format_of(op)));
  const int8_t* weights = program_->constant<int8_t>(op.consts[linear_op::kWeights]);
  const uint32_t* offsets = program_->constant<uint32_t>(op.consts[linear_op::kOffsets]);
  const size_t groups = static_cast<size_t>(op.ints[linear_op::kGroups]);
  const size_t dense = static_cast<size_t>(stored_of(*program_, op)) / groups;  // quads of every group
  int32_t* terms = const_cast<int32_t*>(bias_terms(op));
  for (size_t group = 0; group < groups; ++group, terms += rows) {
    const size_t bytes = (is_sparse(format_of(op)) ? offsets[group + 1] - offsets[group] : dense) * 4 * rows;
    write_terms(weights, bytes, rows, bias_, terms);
    weights += bytes;
  }
}

void Prepacked::mark(const Op& op) {
  const size_t bytes = 4 * static_cast<size_t>(rows_of(format_of(op)));
  const int8_t* weights = program_->constant<int8_t>(op.consts[linear_op::kWeights]);
  const uint32_t* offsets = program_->constant<uint32_t>(op.consts[linear_op::kOffsets]);
  const size_t groups = static_cast<size_t>(op.ints[linear_op::kGroups]);
  const size_t dense = static_cast<size_t>(stored_of(*program_, op)) / groups;  // quads of every group
  for (size_t group = 0, first = 0, count; group < groups; ++group, first += count) {
    count = is_sparse(format_of(op)) ? offsets[group + 1] - offsets[group] : dense;
    mark_quads(weights + first * bytes, first, count, rows_of(format_of(op)), const_cast<uint8_t*>(hard(op)),
               const_cast<uint8_t*>(by_twos(op)));
  }
}

void Prepacked::fill_blocks(const Op& op, uint8_t* record, uint32_t* record_offsets) {
  Lists lists(*program_, op);
  const uint32_t* offsets = program_->constant<uint32_t>(op.consts[linear_op::kOffsets]);
  const int8_t* weights = program_->constant<int8_t>(op.consts[linear_op::kWeights]);
  const int32_t groups = op.ints[linear_op::kGroups];
  const int shift = column_shift(op.ints[linear_op::kK]);
  uint16_t columns[kMaxColumnsOfGroup / 4 + BitsOfBytes::kMost];
  *record_offsets = 0;
  for (int32_t four = 0; four < groups; four += 4, ++record_offsets) {
    const uint32_t longest = longest_of_four(offsets, groups, four);
    for (int32_t row = 0; row < 4 && four + row < groups; ++row) {
      const uint32_t count = offsets[four + row + 1] - offsets[four + row];
      lists.take(count, columns);
      for (uint32_t i = 0; i < count; ++i, weights += 4) {
        uint8_t* to = record + i * record_bytes(op);
        const uint16_t column = static_cast<uint16_t>(columns[i] << shift);
        memcpy(to + 2 * row, &column, sizeof column);
        memcpy(to + kColumnsOfRecord + 4 * row, weights, 4);
      }
    }
    record += longest * record_bytes(op);
    record_offsets[1] = record_offsets[0] + longest;
  }
}

const int32_t* Prepacked::bias_terms(const Op& op) const {
  if (term_bytes(op) == 0) return nullptr;
  return reinterpret_cast<const int32_t*>(memory_.data() + place_of(op).at);
}

const uint8_t* Prepacked::made_at(const Op& op) const { return memory_.data() + place_of(op).at + term_bytes(op); }

const uint16_t* Prepacked::columns(const Op& op) const {
  const Place& place = place_of(op);
  if (place.made == Made::Columns) return reinterpret_cast<const uint16_t*>(made_at(op));
  return place.made == Made::Nothing ? program_->constant<uint16_t>(op.consts[linear_op::kColumns]) : nullptr;
}

const uint32_t* Prepacked::record_offsets(const Op& op) const {
  const uint8_t* first = records(op);
  if (!first || offsets_of(op) == 0) return nullptr;
  return reinterpret_cast<const uint32_t*>(first + (place_of(op).records + kRecordsBeyond) * record_bytes(op));
}

const uint8_t* Prepacked::records(const Op& op) const {
  return place_of(op).made == Made::Records ? made_at(op) : nullptr;
}

const uint8_t* Prepacked::hard(const Op& op) const {
  if (!is_marked(op)) return nullptr;
  return made_at(op) + column_bytes(op, place_of(op).made);
}

const uint8_t* Prepacked::by_twos(const Op& op) const {
  return is_marked(op) && is_sparse(format_of(op)) ? hard(op) + mark_bytes(op) : nullptr;
}

}  // namespace oe
