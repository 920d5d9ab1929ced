// What holds for a linear whatever its input is. Kernels choose a cheaper epilogue by it, so it is found once, when a
// model is loaded: finding it in every call would mean reading all scales and biases.
#ifndef OBERT_EDGE_LINEAR_TRAITS_H
#define OBERT_EDGE_LINEAR_TRAITS_H

#include "program/program.h"

namespace oe {

struct LinearTraits {
  bool rounds_to_int32;     // every result of a static input fits an int32 before it is clamped, whatever its sum is
  bool rows_are_neighbors;  // the rows of each group (1x4: of every four groups) follow each other, and none is padding
};

LinearTraits linear_traits(const Program& program, const Op& op);

}  // namespace oe
#endif
