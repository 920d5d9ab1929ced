// How a program is cut for threads, decided once: which ops may run one panel after the other without waiting for
// other panels, which linears may run at the same time, and where a linear can be cut into equal work.
#ifndef OBERT_EDGE_SCHEDULE_H
#define OBERT_EDGE_SCHEDULE_H

#include <stdint.h>

#include "base/array.h"
#include "program/program.h"

namespace oe {

// Ops [first, first + count). By panels: every one reads and writes one panel of tokens at a time, so a panel may go
// through all of them while other panels are elsewhere.
struct Step {
  int32_t first, count;
  bool by_panels;
};

class Schedule {
 public:
  // A linear is cut into this many grains of about equal work; what a thread takes is a range of grains.
  static constexpr int32_t kGrains = 64;
  // The most linears that run at the same time.
  static constexpr int32_t kTogether = 4;

  // The program must outlive the schedule.
  int32_t plan(const Program& program, const Implementation& implementation);

  const Array<Step>& steps() const { return steps_; }
  // How many of the ops from `op` on are linears of one input that do not touch what the others read or write; at
  // least 1.
  int32_t together(int32_t op) const { return linears_[static_cast<size_t>(op)].together; }
  // The work of one panel, in quads or blocks of multiply-adds.
  uint64_t work(int32_t op) const { return linears_[static_cast<size_t>(op)].work; }
  // How many grains to hand a kernel at a time where a thread has `cache` bytes of second-level cache; 0: not known.
  int32_t grains_of_tile(int32_t op, uint64_t cache) const;
  // [kGrains + 1]: the first group of each grain.
  const int32_t* grains(int32_t op) const {
    return grains_.data() + static_cast<size_t>(linears_[static_cast<size_t>(op)].number) * (kGrains + 1);
  }

 private:
  struct Linear {
    uint64_t work;
    uint64_t bytes;        // of weights and columns, as kernels read them
    uint64_t panel_bytes;  // of a panel of the input
    int32_t number;  // among the linears
    int32_t together;
  };

  Array<Step> steps_;
  Array<Linear> linears_;  // of every op; rubbish for those that are no linear
  Array<int32_t> grains_;
};

}  // namespace oe
#endif
