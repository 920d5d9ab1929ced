// Cuts a program into steps, and its linears into grains.
#include "exec/schedule.h"

#include "obert_edge.h"
#include "base/status.h"

namespace oe {
namespace {

constexpr uint64_t kGroupWork = 8;  // of an epilogue, in quads

class WorkBefore {
 public:
  WorkBefore(const Program& program, const Op& op)
      : offsets_(program.constant<uint32_t>(op.consts[linear_op::kOffsets])),
        dense_quads_(static_cast<Format>(op.ints[linear_op::kFormat]) == Format::Dense4
                         ? (static_cast<uint64_t>(op.ints[linear_op::kK]) + 3) / 4
                         : 0) {}

  // Of the groups before `group`.
  uint64_t operator()(int32_t group) const {
    const uint64_t g = static_cast<uint64_t>(group);
    return g * kGroupWork + (dense_quads_ ? g * dense_quads_ : offsets_[group]);
  }

 private:
  const uint32_t* offsets_;
  uint64_t dense_quads_;
};

// grains[i]: the first group with at least i / kGrains of the work before it.
// They are multiples of `unit`.
uint64_t cut(const Program& program, const Op& op, int32_t unit, int32_t* grains) {
  const WorkBefore before(program, op);
  const int32_t groups = op.ints[linear_op::kGroups];
  const uint64_t work = before(groups);
  int32_t group = 0;
  for (int32_t i = 0; i < Schedule::kGrains; ++i) {
    const uint64_t target = work * static_cast<uint64_t>(i) / Schedule::kGrains;
    while (group < groups && before(group) < target) group += unit;
    if (group > groups) group = groups;
    grains[i] = group;
  }
  grains[Schedule::kGrains] = groups;
  return work;
}

// Of a quad or block: its weights, and its columns as U16 (a dense one has none).
uint64_t bytes_of_unit(Format format) {
  switch (format) {
    case Format::RowGather1:
      return 4 + 8;
    case Format::RowGather2:
      return 8 + 8;
    case Format::RowGather4:
      return 16 + 8;
    case Format::Dense4:
      return 16;
    case Format::Block1x4:
      break;
  }
  return 4 + 2;
}

uint64_t bytes_of_linear(const Program& program, const Op& op) {
  const Format format = static_cast<Format>(op.ints[linear_op::kFormat]);
  const int32_t groups = op.ints[linear_op::kGroups];
  const uint64_t units = WorkBefore(program, op)(groups) - static_cast<uint64_t>(groups) * kGroupWork;
  return units * bytes_of_unit(format);
}

uint32_t slot_of(const Program& program, int32_t buffer) {
  return program.buffers[static_cast<size_t>(buffer)].slot;
}

Domain domain_of(const Program& program, int32_t buffer) { return program.buffers[static_cast<size_t>(buffer)].domain; }

// Whether `op` writes a slot that `other` reads or writes.
bool disturbs(const Program& program, const Op& op, const Op& other) {
  for (const int32_t written : op.outputs) {
    if (written == kAbsent) continue;
    for (int32_t i = 0; i < 4; ++i) {
      const int32_t input = other.inputs[i], output = other.outputs[i];
      if (input != kAbsent && slot_of(program, input) == slot_of(program, written)) return true;
      if (output != kAbsent && slot_of(program, output) == slot_of(program, written)) return true;
    }
  }
  return false;
}

bool independent(const Program& program, const Op& a, const Op& b) {
  return b.kind == OpKind::Linear && a.inputs[linear_op::kInput] == b.inputs[linear_op::kInput] &&
         a.inputs[linear_op::kParams] == b.inputs[linear_op::kParams] && !disturbs(program, a, b) &&
         !disturbs(program, b, a);
}

int32_t count_together(const Program& program, size_t first) {
  int32_t count = 1;
  for (size_t next = first + 1; next < program.ops.size() && count < Schedule::kTogether; ++next, ++count) {
    for (size_t i = first; i < next; ++i) {
      if (!independent(program, program.ops[i], program.ops[next])) return count;
    }
  }
  return count;
}

bool by_panels(const Program& program, const Op& op) {
  switch (op.kind) {
    case OpKind::Embed:
    case OpKind::LayerNorm:
    case OpKind::Quantize:
    case OpKind::QuantizeDynamic:
    case OpKind::Linear:
      return domain_of(program, op.kind == OpKind::Embed ? op.outputs[0] : op.inputs[0]) == Domain::Tokens;
    case OpKind::Attention:
    case OpKind::SelectFirst:
    case OpKind::MeanPool:
    case OpKind::Output:
      break;
  }
  return false;
}

}  // namespace

int32_t Schedule::plan(const Program& program, const Implementation& implementation) {
  int32_t linears = 0, steps = 0;
  const size_t ops = program.ops.size();
  for (const Op& op : program.ops) linears += op.kind == OpKind::Linear;
  if (!steps_.allocate(ops) || !linears_.allocate(ops) ||
      !grains_.allocate(static_cast<size_t>(linears) * (kGrains + 1))) {
    return fail(OE_OUT_OF_MEMORY, "no memory for the schedule");
  }
  int32_t* grains = grains_.data();
  int32_t number = 0;
  for (size_t i = 0; i < ops; ++i) {
    const Op& op = program.ops[i];
    if (op.kind == OpKind::Linear) {
      const bool by_fours =
          implementation.records == Records::All && static_cast<Format>(op.ints[linear_op::kFormat]) == Format::Block1x4;
      linears_[i] = {cut(program, op, by_fours ? 4 : 1, grains), bytes_of_linear(program, op),
                     static_cast<uint64_t>(op.ints[linear_op::kK]) * kPanel, number++, count_together(program, i)};
      grains += kGrains + 1;
    }
    const bool joins = by_panels(program, op);
    if (joins && steps > 0 && steps_[static_cast<size_t>(steps - 1)].by_panels) {
      ++steps_[static_cast<size_t>(steps - 1)].count;
    } else {
      steps_[static_cast<size_t>(steps++)] = {static_cast<int32_t>(i), 1, joins};
    }
  }
  steps_.shrink(static_cast<size_t>(steps));
  return OE_OK;
}

// Every tile reads the panel again (a quarter of it at a time, from all its lines), so the panel has to stay in the cache,
// too, with the quarter at hand; of what is left, half is for weights and half for what is written. Where that is little,
// reading the panel so often costs more than the weights that stay.
int32_t Schedule::grains_of_tile(int32_t op, uint64_t cache) const {
  const Linear& linear = linears_[static_cast<size_t>(op)];
  const uint64_t kept = linear.panel_bytes + linear.panel_bytes / 4;
  if (cache <= kept) return kGrains;
  const uint64_t tile = (cache - kept) / 2;
  if (tile < linear.panel_bytes / 4 || tile >= linear.bytes) return kGrains;
  const uint64_t grains = tile * kGrains / linear.bytes;
  return grains ? static_cast<int32_t>(grains) : 1;
}

}  // namespace oe
