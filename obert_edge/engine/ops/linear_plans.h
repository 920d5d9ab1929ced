// What is made of the linears of a program once, when it is opened: their weights as the kernels read them, what is
// true of them for any input, and where they can be cut into equal work.
#ifndef OBERT_EDGE_LINEAR_PLANS_H
#define OBERT_EDGE_LINEAR_PLANS_H

#include <stdint.h>

#include "base/array.h"
#include "exec/balance.h"
#include "ops/linear_traits.h"
#include "ops/prepacked.h"
#include "program/program.h"

namespace oe {

struct LinearPlan {
  LinearTraits traits;
  uint64_t work;          // of one panel, in quads (four columns of a group), epilogues included
  uint64_t bytes;         // of weights and columns, as kernels read them
  uint64_t panel_bytes;   // of a panel of the input
  const int32_t* groups;  // [kGrains + 1]: the first group of each grain

  // How many grains to hand a kernel at a time where a thread has `cache` bytes of second-level cache; 0: not known.
  int32_t grains_of_tile(uint64_t cache) const;
};

class LinearPlans {
 public:
  // The program must outlive the plans. OE_OUT_OF_MEMORY when there is no room, OE_UNSUPPORTED when the implementation
  // is without a kernel for one of the weight formats.
  int32_t make(const Program& program, const Implementation& implementation, ThreadPool& pool);

  // The plan of the op with this index, which is a linear.
  const LinearPlan& operator[](int32_t op) const { return plans_[static_cast<size_t>(op)]; }
  const Prepacked& prepacked() const { return prepacked_; }

 private:
  Array<LinearPlan> plans_;  // of every op; zeros for those that are no linear
  Array<int32_t> groups_;
  Prepacked prepacked_;
};

}  // namespace oe
#endif
