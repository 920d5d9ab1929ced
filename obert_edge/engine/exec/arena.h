// The memory of all activations: where each buffer of a program lies for the batch at hand.
#ifndef OBERT_EDGE_ARENA_H
#define OBERT_EDGE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/array.h"
#include "exec/elastic_memory.h"
#include "obert_edge.h"
#include "program/program.h"

namespace oe {

class Arena {
 public:
  // Decides once which buffers share their memory. The program must outlive the arena.
  int32_t plan(const Program& program);

  // Gives every buffer an address for this batch. Takes and gives back memory as ElasticMemory says.
  int32_t place(const oe_batch& batch);

  void release() { memory_.release(); }

  // See ElasticMemory::abandon.
  void abandon() { memory_.abandon(); }

  // [buffers]: the addresses of the last `place`.
  void* const* addresses() const { return addresses_.data(); }
  size_t bytes() const { return memory_.bytes(); }

 private:
  uint64_t bytes_of_buffer(const Buffer& buffer, const oe_batch& batch) const;

  const Program* program_ = nullptr;
  Array<int32_t> owners_;  // of every buffer: the first buffer with which it shares its memory
  Array<void*> addresses_;
  ElasticMemory memory_;
};

}  // namespace oe
#endif
