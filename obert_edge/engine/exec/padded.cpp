#include "exec/padded.h"

#include <string.h>

#include "base/status.h"

namespace oe {
namespace {

constexpr int64_t kMaxPlaces = 1 << 28;  // of a padded array

// An array of the caller's, of any of the widths that oe_padded takes.
class Integers {
 public:
  Integers(const void* data, int32_t bytes) : data_(data), bytes_(bytes) {}

  explicit operator bool() const { return data_ != nullptr; }
  bool has_known_width() const { return !data_ || bytes_ == 1 || bytes_ == 4 || bytes_ == 8; }
  int64_t operator[](size_t i) const {
    if (bytes_ == 8) return static_cast<const int64_t*>(data_)[i];
    if (bytes_ == 4) return static_cast<const int32_t*>(data_)[i];
    return static_cast<const uint8_t*>(data_)[i];
  }

 private:
  const void* data_;
  int32_t bytes_;
};

// The positions of one sequence, token by token: the columns of BERT's kind of models; for RoBERTa's, the number of
// tokens so far that are no padding, where padding itself has the position of none.
class Positions {
 public:
  explicit Positions(const oe_input_rules& rules) : offset_(rules.position_offset) {}

  int32_t next(int32_t column, bool is_padding) {
    counted_ += !is_padding;
    if (offset_ == 0) return column;
    return (is_padding ? 0 : counted_) + offset_ - 1;
  }

 private:
  int32_t offset_;
  int32_t counted_ = 0;
};

class Packing {
 public:
  Packing(const oe_input_rules& rules, const oe_padded& padded, int32_t* room)
      : rules_(rules),
        columns_(padded.columns),
        ids_(padded.input_ids, padded.id_bytes),
        mask_(padded.attention_mask, padded.mask_bytes),
        types_(padded.token_type_ids, padded.type_bytes) {
    const size_t places = static_cast<size_t>(padded.rows) * static_cast<size_t>(padded.columns);
    starts = room;
    ids = starts + padded.rows + 1;
    positions = ids + places;
    types = positions + places;
    this->places = types + places;
    starts[0] = 0;
  }

  int32_t check_widths() const {
    if (ids_ && ids_.has_known_width() && mask_.has_known_width() && types_.has_known_width()) return OE_OK;
    return fail(OE_INVALID_INPUT, "input_ids is missing, or an array has another width than 1, 4 or 8 bytes");
  }

  int32_t take_row(int32_t row) {
    const int32_t before = tokens;
    Positions row_positions(rules_);
    for (int32_t column = 0; column < columns_; ++column) {
      const size_t at = static_cast<size_t>(row) * static_cast<size_t>(columns_) + static_cast<size_t>(column);
      const int64_t id = ids_[at];
      const int32_t position = row_positions.next(column, id == rules_.pad_id);
      const int64_t mask = mask_ ? mask_[at] : 1;
      if (mask == 0 && !(column == 0 && rules_.uses_first_token)) continue;
      const int64_t type = types_ ? types_[at] : 0;
      if (mask != 1 || !is_known(id) || !is_known_type(type)) return refuse(row, column, mask, id, type);
      ids[tokens] = static_cast<int32_t>(id);
      types[tokens] = static_cast<int32_t>(type);
      positions[tokens] = position;
      places[tokens] = static_cast<int32_t>(at);
      ++tokens;
    }
    starts[row + 1] = tokens;
    return tokens > before ? OE_OK : refuse_empty(row);
  }

  int32_t *starts, *ids, *positions, *types, *places;
  int32_t tokens = 0;

 private:
  bool is_known(int64_t id) const {
    return rules_.vocabulary ? id >= 0 && id < rules_.vocabulary : id >= INT32_MIN && id <= INT32_MAX;
  }
  bool is_known_type(int64_t type) const { return type == 0 || (type > 0 && type < rules_.type_vocabulary); }

  int32_t refuse_empty(int32_t row) const {
    return advise(fail(OE_INVALID_INPUT, "row %d of attention_mask has no token", row),
                  "leave empty texts out of the batch");
  }

  bool is_empty(int32_t row) const {
    const size_t first = static_cast<size_t>(row) * static_cast<size_t>(columns_);
    for (int32_t column = 0; column < columns_; ++column) {
      if (mask_[first + static_cast<size_t>(column)] != 0) return false;
    }
    return true;
  }

  // Says what is wrong with a token.
  int32_t refuse(int32_t row, int32_t column, int64_t mask, int64_t id, int64_t type) const {
    const auto number = [](int64_t value) {
      return static_cast<long long>(value);
    };
    if (mask == 0 && is_empty(row)) return refuse_empty(row);
    if (mask == 0) {
      return advise(
          fail(OE_INVALID_INPUT, "attention_mask[%d][0] is 0, but the model's result is taken from column 0", row),
          "pad on the right, so that column 0 holds the first special token");
    }
    if (mask != 1) {
      return advise(
          fail(OE_INVALID_INPUT, "attention_mask[%d][%d] is %lld; it must be 0 or 1", row, column, number(mask)),
          "pass 1 for real tokens and 0 for padding");
    }
    if (!is_known(id)) {
      const char* fix = "use the tokenizer the model was trained with";
      if (!rules_.vocabulary) {
        return advise(
            fail(OE_INVALID_INPUT, "input_ids[%d][%d] is %lld, which is no 32-bit integer", row, column, number(id)),
            fix);
      }
      return advise(fail(OE_INVALID_INPUT, "input_ids[%d][%d] is %lld; it must be 0 to %d", row, column, number(id),
                         rules_.vocabulary - 1),
                    fix);
    }
    if (rules_.type_vocabulary) {
      return advise(fail(OE_INVALID_INPUT, "token_type_ids[%d][%d] is %lld; it must be 0 to %d", row, column,
                         number(type), rules_.type_vocabulary - 1),
                    "use the tokenizer the model was trained with");
    }
    return advise(fail(OE_INVALID_INPUT, "token_type_ids[%d][%d] is %lld, but this model has no token types", row,
                       column, number(type)),
                  "leave token_type_ids out");
  }

  const oe_input_rules& rules_;
  const int32_t columns_;
  const Integers ids_, mask_, types_;
};

}  // namespace

int64_t pack_room(int64_t rows, int64_t columns) {
  if (rows >= 1 && columns >= 1 && rows <= kMaxPlaces && columns <= kMaxPlaces / rows) {
    return rows + 1 + 4 * rows * columns;
  }
  fail(OE_INVALID_INPUT, "the inputs have shape [%lld, %lld]; at least one token and at most %lld are needed",
       static_cast<long long>(rows), static_cast<long long>(columns), static_cast<long long>(kMaxPlaces));
  return 0;
}

int32_t pack(const oe_input_rules& rules, const oe_padded& padded, int32_t* room, oe_packed* packed) {
  *packed = {};
  if (pack_room(padded.rows, padded.columns) == 0) return OE_INVALID_INPUT;
  if (rules.max_length > 0 && padded.columns > rules.max_length) {
    return advise(fail(OE_INVALID_INPUT, "the sequences have %d tokens; this model takes up to %d", padded.columns,
                       rules.max_length),
                  "truncate the texts, or split them (predict() does, for answers)");
  }
  Packing packing(rules, padded, room);
  int32_t status = packing.check_widths();
  for (int32_t row = 0; status == OE_OK && row < padded.rows; ++row) status = packing.take_row(row);
  if (status != OE_OK) return status;
  packed->batch.sequences = padded.rows;
  packed->batch.tokens = packing.tokens;
  packed->batch.starts = packing.starts;
  packed->batch.ids = packing.ids;
  packed->batch.positions = packing.positions;
  packed->batch.token_types = padded.token_type_ids && rules.type_vocabulary ? packing.types : nullptr;
  packed->places = packing.places;
  packed->rows = padded.rows;
  packed->columns = padded.columns;
  return OE_OK;
}

void unpack(const oe_packed& packed, int32_t channels, const float* rows, float* padded) {
  const size_t width = static_cast<size_t>(channels);
  const auto clear = [&](int32_t begin, int32_t end) {
    memset(padded + static_cast<size_t>(begin) * width, 0, static_cast<size_t>(end - begin) * width * sizeof(float));
  };
  // The last token first: none moves down, so within one array a row is read before it is overwritten.
  int32_t end = packed.rows * packed.columns;  // places from here on are done
  for (int32_t token = packed.batch.tokens - 1; token >= 0; --token) {
    const int32_t place = packed.places[token];
    clear(place + 1, end);
    const float* from = rows + static_cast<size_t>(token) * width;
    float* to = padded + static_cast<size_t>(place) * width;
    if (from != to) memcpy(to, from, width * sizeof(float));
    end = place;
  }
  clear(0, end);
}

void count_positions(const oe_input_rules& rules, int32_t sequences, const int32_t* starts, int32_t* positions) {
  for (int32_t s = 0; s < sequences; ++s) {
    Positions of_sequence(rules);
    for (int32_t token = starts[s]; token < starts[s + 1]; ++token) {
      positions[token] = of_sequence.next(token - starts[s], false);
    }
  }
}

}  // namespace oe
