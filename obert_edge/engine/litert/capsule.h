// A compiled graph in one block of bytes, with what is needed to run it on padded batches: what a model file of
// another runtime carries. The C++ twin of obert_edge/bundle/capsule.py.
#ifndef OBERT_EDGE_CAPSULE_H
#define OBERT_EDGE_CAPSULE_H

#include <stdint.h>

#include "obert_edge.h"

namespace oe {

struct Capsule {
  oe_input_rules rules = {};
  uint32_t squeezed = 0;  // bit i: result i has one channel and is given without that axis
  const uint8_t* program = nullptr;
  uint64_t program_bytes = 0;
  const uint8_t* weights = nullptr;
  uint64_t weights_bytes = 0;
};

// Finds the parts; they point into `data`. The program itself is checked when it is opened.
int32_t parse_capsule(const void* data, uint64_t bytes, Capsule* capsule);

}  // namespace oe
#endif
