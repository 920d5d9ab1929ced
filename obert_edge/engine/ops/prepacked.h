// What is made of the weights once, at load: the layouts that kernels read and a bundle does not store. Columns stored as
// masks become lists, and where an implementation reads records, columns and weights of sparse linears become one stream
// of those.
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
  // The program must outlive it. OE_OUT_OF_MEMORY when there is no room.
  int32_t expand(const Program& program, const Implementation& implementation, ThreadPool& pool);

  // LinearArgs::columns of a linear: nullptr where it has none, or has records.
  const uint16_t* columns(const Op& op) const;
  // LinearArgs::records of a linear, or nullptr.
  const uint8_t* records(const Op& op) const;
  // LinearArgs::record_offsets of a linear, or nullptr.
  const uint32_t* record_offsets(const Op& op) const;

  uint64_t bytes() const { return memory_.bytes(); }

 private:
  enum class Made : uint8_t { Nothing, Columns, Records };
  struct Place {
    uint64_t at, records;  // where it is in memory_; how many, those beyond left out
    Made made;
  };

  Made made_of(const Op& op) const;
  uint64_t bytes_of(const Op& op, const Place& place) const;
  const Place& place_of(const Op& op) const { return places_[static_cast<size_t>(&op - program_->ops.data())]; }
  uint64_t records_of(const Op& op) const;
  uint64_t offsets_of(const Op& op) const;
  void fill(const Op& op);
  void fill_blocks(const Op& op, uint8_t* records, uint32_t* record_offsets);

  const Program* program_ = nullptr;
  Records kinds_ = Records::None;
  Array<Place> places_;  // of every op
  Memory memory_;
};

}  // namespace oe
#endif
