// Prepacked weights: layouts that kernels read and a bundle does not store, made once when a model is loaded. A bundle
// stores the columns of a sparse linear as bit masks where those are smaller than lists; kernels read lists. And where
// an implementation reads records (kernels.h), the columns and the weights of its sparse linears become one stream of
// them. Where it must know how to multiply the quads of others, these are marked. And where it takes a bias off
// activations, what the sums of every row lack for that is computed.
#ifndef OBERT_EDGE_PREPACKED_H
#define OBERT_EDGE_PREPACKED_H

#include <stdint.h>

#include "base/array.h"
#include "kernels/kernels.h"
#include "base/memory.h"
#include "program/program.h"
#include "exec/thread_pool.h"

namespace oe {

class Prepacked {
 public:
  // Prepacks every linear of `program`, which must outlive this object. Returns OE_OK, or OE_OUT_OF_MEMORY when there
  // is no room for the bytes needed.
  int32_t prepack(const Program& program, const Implementation& implementation, ThreadPool& pool);

  // LinearArgs::columns of a linear; nullptr for Dense4, which has no columns, and where records hold them.
  const uint16_t* columns(const Op& op) const;
  // LinearArgs::records of a linear; nullptr where the implementation does not read records of its format.
  const uint8_t* records(const Op& op) const;
  // LinearArgs::record_offsets of a linear; nullptr where there are no records, or where the offsets of its groups do.
  const uint32_t* record_offsets(const Op& op) const;

  // LinearArgs::hard and LinearArgs::by_twos of a linear; nullptr where the implementation asks for no such marks.
  const uint8_t* hard(const Op& op) const;
  const uint8_t* by_twos(const Op& op) const;

  // LinearArgs::bias_terms of a linear; nullptr where the implementation takes no bias off activations.
  const int32_t* bias_terms(const Op& op) const;

  // Bytes of memory that all prepacked weights take.
  uint64_t bytes() const { return memory_.bytes(); }

 private:
  enum class Made : uint8_t { Nothing, Columns, Records };  // what an op's weights are prepacked to
  struct Place {
    uint64_t at;       // byte offset into memory_
    uint64_t records;  // number of records, without the kRecordsBeyond at their end
    Made made;
    bool filled_elsewhere;  // it is that of an op before, which has the same weights
  };

  Made made_of(const Op& op) const;
  bool is_marked(const Op& op) const;
  const Op* same_weights_before(const Op& op) const;
  uint64_t bytes_of(const Op& op, const Place& place) const;
  const Place& place_of(const Op& op) const { return places_[static_cast<size_t>(&op - program_->ops.data())]; }
  uint64_t records_of(const Op& op) const;
  uint64_t offsets_of(const Op& op) const;  // number of record_offsets
  uint64_t term_bytes(const Op& op) const;
  uint64_t column_bytes(const Op& op, Made made) const;
  uint64_t mark_bytes(const Op& op) const;  // of one kind of marks
  void fill(const Op& op);
  const uint8_t* made_at(const Op& op) const;  // where the place's columns or records begin
  void add_terms(const Op& op);
  void mark(const Op& op);
  void fill_blocks(const Op& op, uint8_t* records, uint32_t* record_offsets);

  const Program* program_ = nullptr;
  Records kinds_ = Records::None;
  int32_t bias_ = 0;     // Implementation::activation_bias
  Array<Place> places_;  // one per op of the program
  Memory memory_;
};

}  // namespace oe
#endif
