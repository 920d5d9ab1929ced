#include "program/dataflow.h"

#include "base/status.h"
#include "obert_edge.h"

namespace oe {

int32_t Dataflow::start() {
  if (!slots_.allocate(program_.slots)) return fail(OE_OUT_OF_MEMORY, "no memory to check the program");
  for (Slot& slot : slots_) slot = {kAbsent, kAbsent};
  return OE_OK;
}

int32_t Dataflow::read(size_t op) const {
  for (const int32_t buffer : program_.ops[op].inputs) {
    if (buffer == kAbsent || slot_of(buffer).buffer == buffer) continue;
    const char* name = program_.ops[op].name;
    const int32_t holder = slot_of(buffer).buffer;
    if (holder == kAbsent) {
      return fail(OE_INVALID_PROGRAM, "op %zu (%s): it reads buffer %d, which no earlier op writes", op, name, buffer);
    }
    return fail(OE_INVALID_PROGRAM, "op %zu (%s): it reads buffer %d, whose slot holds buffer %d by then", op, name,
                buffer, holder);
  }
  return OE_OK;
}

void Dataflow::write(size_t op) {
  for (const int32_t buffer : program_.ops[op].outputs) {
    if (buffer != kAbsent) slots_[program_.buffer(buffer).slot] = {buffer, static_cast<int32_t>(op)};
  }
}

}  // namespace oe
