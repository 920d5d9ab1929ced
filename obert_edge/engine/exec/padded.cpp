#include "exec/padded.h"

#include <string.h>

#include "base/status.h"

namespace oe {
namespace {

constexpr int64_t kMaxPlaces = 1 << 28;

bool fits(int64_t value) { return value >= INT32_MIN && value <= INT32_MAX; }

}  // namespace

int32_t PaddedBatch::reserve(int64_t rows, int64_t columns) {
  if (rows < 1 || columns < 1 || rows > kMaxPlaces || columns > kMaxPlaces / rows) {
    return fail(OE_INVALID_INPUT, "the inputs have shape [%lld, %lld]; at least one token and at most %lld are needed",
                static_cast<long long>(rows), static_cast<long long>(columns), static_cast<long long>(kMaxPlaces));
  }
  const size_t places = static_cast<size_t>(rows * columns);
  rows_ = 0;
  columns_ = 0;
  if (!starts_.allocate(static_cast<size_t>(rows) + 1) || !ids_.allocate(places) || !positions_.allocate(places) ||
      !types_.allocate(places) || !places_.allocate(places)) {
    return fail(OE_OUT_OF_MEMORY, "no memory for a batch of shape [%lld, %lld]", static_cast<long long>(rows),
                static_cast<long long>(columns));
  }
  rows_ = static_cast<int32_t>(rows);
  columns_ = static_cast<int32_t>(columns);
  return OE_OK;
}

int32_t PaddedBatch::pack(const InputRules& rules, const Integers& ids, const Integers& mask, const Integers& types) {
  batch_ = {};
  for (int32_t row = 0; row < rows_; ++row) {
    const int32_t status = pack_row(rules, ids, mask, types, row);
    if (status != OE_OK) return status;
    starts_[static_cast<size_t>(row) + 1] = batch_.tokens;
  }
  batch_.sequences = rows_;
  batch_.starts = starts_.data();
  batch_.ids = ids_.data();
  batch_.positions = positions_.data();
  batch_.token_types = rules.type_vocabulary ? types_.data() : nullptr;
  return OE_OK;
}

int32_t PaddedBatch::pack_row(const InputRules& rules, const Integers& ids, const Integers& mask,
                              const Integers& types, int32_t row) {
  const int32_t before = batch_.tokens;
  int32_t counted = 0;  // tokens so far that are no padding
  for (int32_t column = 0; column < columns_; ++column) {
    const size_t at = static_cast<size_t>(row) * static_cast<size_t>(columns_) + static_cast<size_t>(column);
    const int64_t id = ids[at];
    const bool padding = id == rules.pad_id;
    counted += !padding;
    const int64_t masked = mask.data ? mask[at] : 1;
    if (masked != 0 && masked != 1) {
      return fail(OE_INVALID_INPUT, "attention_mask[%d][%d] is %lld; it must be 0 or 1", row, column,
                  static_cast<long long>(masked));
    }
    if (!masked) {
      if (column == 0 && rules.uses_first_token) {
        return fail(OE_INVALID_INPUT, "attention_mask[%d][0] is 0, but the model's result is taken from column 0", row);
      }
      continue;
    }
    const int64_t type = types.data ? types[at] : 0;
    if (!fits(id) || !fits(type)) {
      return fail(OE_INVALID_INPUT, "%s[%d][%d] is %lld, which is no 32-bit integer",
                  fits(id) ? "token_type_ids" : "input_ids", row, column, static_cast<long long>(fits(id) ? type : id));
    }
    if (type != 0 && !rules.type_vocabulary) {
      return fail(OE_INVALID_INPUT, "token_type_ids[%d][%d] is %lld, but this model has no token types", row, column,
                  static_cast<long long>(type));
    }
    const size_t token = static_cast<size_t>(batch_.tokens);
    ids_[token] = static_cast<int32_t>(id);
    types_[token] = static_cast<int32_t>(type);
    positions_[token] = rules.position_offset ? (padding ? 0 : counted) + rules.position_offset - 1 : column;
    places_[token] = static_cast<int32_t>(at);
    ++batch_.tokens;
  }
  if (batch_.tokens == before) return fail(OE_INVALID_INPUT, "row %d of attention_mask has no token", row);
  return OE_OK;
}

void PaddedBatch::scatter(float* values, int32_t channels) const {
  const size_t width = static_cast<size_t>(channels);
  const auto clear = [&](int32_t begin, int32_t end) {
    memset(values + static_cast<size_t>(begin) * width, 0, static_cast<size_t>(end - begin) * width * sizeof(float));
  };
  int32_t end = rows_ * columns_;  // places from here on are done
  int32_t token = batch_.tokens - 1;
  // Last token first: none moves down, so a row is read before it is written. Once one is in its place, so are all
  // before it.
  for (; token >= 0 && places_[static_cast<size_t>(token)] != token; --token) {
    const int32_t place = places_[static_cast<size_t>(token)];
    clear(place + 1, end);
    memcpy(values + static_cast<size_t>(place) * width, values + static_cast<size_t>(token) * width,
           width * sizeof(float));
    end = place;
  }
  clear(token + 1, end);
}

}  // namespace oe
