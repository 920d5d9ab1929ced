// The order in which a program's ops run, decided once: which of them may run one panel after the other without waiting
// for other panels, and which may run at the same time.
#ifndef OBERT_EDGE_SCHEDULE_H
#define OBERT_EDGE_SCHEDULE_H

#include <stdint.h>

#include "base/array.h"
#include "program/program.h"

namespace oe {

// Ops [first, first + count). By panels: every one reads and writes one panel of tokens at a time, so a panel may go
// through all of them while other panels are elsewhere. Otherwise each op waits for the one before it.
struct Step {
  int32_t first, count;
  bool by_panels;
};

class Schedule {
 public:
  // OE_OUT_OF_MEMORY when there is no room.
  int32_t plan(const Program& program);

  const Array<Step>& steps() const { return steps_; }
  // How many of the ops from `op` on can be computed in one OpDefinition::run; at least 1.
  int32_t together(int32_t op) const { return together_[static_cast<size_t>(op)]; }

 private:
  Array<Step> steps_;
  Array<int32_t> together_;  // of every op
};

}  // namespace oe
#endif
