// Padded integer arrays [rows][columns], as other runtimes hand a batch over, and the packed batch of this engine:
// the C++ twin of obert_edge/device/runtime/batching.py.
#ifndef OBERT_EDGE_PADDED_H
#define OBERT_EDGE_PADDED_H

#include <stddef.h>
#include <stdint.h>

#include "base/array.h"
#include "obert_edge.h"

namespace oe {

// What a model says about its inputs.
struct InputRules {
  int32_t position_offset = 0;    // position of the first token (RoBERTa: 2); 0: a token's position is its column
  int32_t pad_id = 0;             // not counted in positions where position_offset is not 0
  int32_t type_vocabulary = 0;    // number of token types; 0: the model has none
  bool uses_first_token = false;  // the result is taken from column 0, which must then be real
};

// An array of someone else's, int32 or int64.
struct Integers {
  const void* data = nullptr;
  bool wide = false;  // int64

  int64_t operator[](size_t i) const {
    return wide ? static_cast<const int64_t*>(data)[i] : static_cast<const int32_t*>(data)[i];
  }
};

class PaddedBatch {
 public:
  // Room for [rows][columns]; forgets what was packed.
  int32_t reserve(int64_t rows, int64_t columns);

  // Packs the tokens whose mask is 1. `mask` and `types` may have no data: all 1, all 0.
  int32_t pack(const InputRules& rules, const Integers& ids, const Integers& mask, const Integers& types);

  const oe_batch& batch() const { return batch_; }
  int32_t rows() const { return rows_; }
  int32_t columns() const { return columns_; }

  // Moves rows of `channels` values from the places of packed tokens to those of padded ones, within `values`
  // [rows][columns][channels]; the rest becomes 0.
  void scatter(float* values, int32_t channels) const;

 private:
  int32_t pack_row(const InputRules& rules, const Integers& ids, const Integers& mask, const Integers& types,
                   int32_t row);

  int32_t rows_ = 0;
  int32_t columns_ = 0;
  oe_batch batch_ = {};
  Array<int32_t> starts_;
  Array<int32_t> ids_;
  Array<int32_t> positions_;
  Array<int32_t> types_;
  Array<int32_t> places_;  // of every packed token: row * columns + column
};

}  // namespace oe
#endif
