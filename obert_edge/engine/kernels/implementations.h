// The implementations compiled into this library, and which of them this CPU can run.
#ifndef OBERT_EDGE_IMPLEMENTATIONS_H
#define OBERT_EDGE_IMPLEMENTATIONS_H

#include <stdint.h>

#include "kernels/kernels.h"

namespace oe {

// Names this CPU can run, best first, comma-separated.
const char* implementation_names();

// `name` nullptr: $OBERT_EDGE_IMPLEMENTATION when set and not empty, else the best. OE_UNSUPPORTED for a name that
// is unknown or that this CPU cannot run.
int32_t select_implementation(const char* name, const Implementation** selected);

}  // namespace oe
#endif
