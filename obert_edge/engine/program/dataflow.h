// Which op's values a buffer holds, op by op: buffers share slots of the arena, so one may have been overwritten.
#ifndef OBERT_EDGE_DATAFLOW_H
#define OBERT_EDGE_DATAFLOW_H

#include <stdint.h>

#include "base/array.h"
#include "program/program.h"

namespace oe {

// The state of all slots while the ops of a program are walked in order.
class Dataflow {
 public:
  explicit Dataflow(const Program& program) : program_(program) {}

  // All slots empty. OE_OUT_OF_MEMORY when there is no room for them.
  int32_t start();

  // Checks that every input of an op holds what an earlier op wrote there.
  int32_t read(size_t op) const;

  // Notes what an op writes.
  void write(size_t op);

  // The op that wrote the slot of a buffer last; nullptr: none has.
  const Op* writer_of(int32_t buffer) const {
    const int32_t writer = slot_of(buffer).writer;
    return writer == kAbsent ? nullptr : &program_.ops[static_cast<size_t>(writer)];
  }

 private:
  struct Slot {
    int32_t buffer;  // the buffer whose values it holds, or kAbsent
    int32_t writer;  // the op that wrote them, or kAbsent
  };

  const Slot& slot_of(int32_t buffer) const { return slots_[program_.buffer(buffer).slot]; }

  const Program& program_;
  Array<Slot> slots_;
};

}  // namespace oe
#endif
