#include "exec/schedule.h"

#include "base/status.h"
#include "exec/balance.h"
#include "obert_edge.h"
#include "ops/definition.h"

namespace oe {
namespace {

// Whether `op` writes a slot that `other` reads or writes.
bool overwrites(const Program& program, const Op& op, const Op& other) {
  const auto same_slot = [&](int32_t a, int32_t b) {
    return a != kAbsent && b != kAbsent && program.buffer(a).slot == program.buffer(b).slot;
  };
  for (const int32_t written : op.outputs) {
    for (const int32_t read : other.inputs) {
      if (same_slot(written, read)) return true;
    }
    for (const int32_t also_written : other.outputs) {
      if (same_slot(written, also_written)) return true;
    }
  }
  return false;
}

int32_t count_together(const Program& program, size_t first) {
  const auto joins = definition_of(program.ops[first]).joins;
  int32_t count = 1;
  if (!joins) return count;
  for (size_t next = first + 1; next < program.ops.size() && count < kTogether; ++next, ++count) {
    const Op& b = program.ops[next];
    for (size_t i = first; i < next; ++i) {
      const Op& a = program.ops[i];
      if (!joins(a, b) || overwrites(program, a, b) || overwrites(program, b, a)) return count;
    }
  }
  return count;
}

// Ops over sequences (a classifier) have no panels of tokens.
bool by_panels(const Program& program, const Op& op) {
  if (!definition_of(op).run_panel) return false;
  const int32_t buffer = op.inputs[0] == kAbsent ? op.outputs[0] : op.inputs[0];
  return program.buffer(buffer).domain == Domain::Tokens;
}

}  // namespace

int32_t Schedule::plan(const Program& program) {
  const size_t ops = program.ops.size();
  if (!steps_.allocate(ops) || !together_.allocate(ops)) return fail(OE_OUT_OF_MEMORY, "no memory for the schedule");
  size_t steps = 0;
  for (size_t i = 0; i < ops; ++i) {
    together_[i] = count_together(program, i);
    const bool panels = by_panels(program, program.ops[i]);
    if (steps > 0 && steps_[steps - 1].by_panels == panels) {
      ++steps_[steps - 1].count;
    } else {
      steps_[steps++] = {static_cast<int32_t>(i), 1, panels};
    }
  }
  steps_.shrink(steps);
  return OE_OK;
}

}  // namespace oe
