// What is true of a linear whatever its input holds, found once when a model is loaded: kernels choose their float steps by it.
#ifndef OBERT_EDGE_LINEAR_TRAITS_H
#define OBERT_EDGE_LINEAR_TRAITS_H

#include "program/program.h"

namespace oe {

struct LinearTraits {
  bool rounds_to_int32, rows_are_neighbors;  // of LinearArgs
};

LinearTraits linear_traits(const Program& program, const Op& op);

}  // namespace oe
#endif
