// Cutting work for threads so that all of them are busy to the end.
#ifndef OBERT_EDGE_BALANCE_H
#define OBERT_EDGE_BALANCE_H

#include <stdint.h>

namespace oe {

// A linear is cut into this many grains of about equal work; what a thread takes is a range of grains.
constexpr int32_t kGrains = 64;
// The most linears that run at the same time.
constexpr int32_t kTogether = 4;

// Whether whole panels, one thread each, keep all threads busy.
bool panels_balance(int32_t tokens, int32_t threads);

// Where several linears of one input are cut: a sequence of grains over panels, linears and their groups, in which
// equal distances are about equal work.
class GrainCut {
 public:
  // `work`: of one panel through each of the `count` linears, in quads (four columns of a group).
  GrainCut(const uint64_t* work, int32_t count, int32_t tokens);

  int32_t grains() const { return panels_ * count_ * kGrains; }
  // The work of all panels, in quads of a full panel.
  uint64_t work() const;
  // The grain that has part / parts of the work before it.
  int32_t grain_at(uint64_t part, uint64_t parts) const;

 private:
  const uint64_t* work_;
  int32_t count_, panels_;
  uint64_t panel_work_ = 0;       // of one panel through all linears
  uint64_t full_ = 0, last_ = 0;  // time of a full panel, and of the last one
};

// How much of the work each task takes. Every thread gets a large task, then ever smaller ones. They are in the order
// in which the pool hands them out (from both ends), so that the small ones in the middle, which level out what
// threads were held up by, come last.
class TaskSizes {
 public:
  // `work`: of all tasks together, as GrainCut::work.
  TaskSizes(int32_t threads, uint64_t work);

  int32_t tasks() const { return levels_ * (front_ + back_); }
  uint64_t parts() const { return kParts * static_cast<uint64_t>(front_ + back_); }
  // The parts before task `task`.
  uint64_t parts_before(int32_t task) const;

 private:
  static constexpr uint64_t kParts = 16;  // of one thread

  uint64_t parts_of_first(int32_t tasks, int32_t sharers) const;

  int32_t levels_, front_, back_;
};

}  // namespace oe
#endif
