#include "ops/linear_plans.h"

#include "base/status.h"
#include "exec/parallel.h"
#include "obert_edge.h"
#include "program/op_check.h"

namespace oe {
namespace {

constexpr uint64_t kGroupWork = 8;  // what the epilogue of a group takes, in quads

// Quads (1x4: blocks) of the groups before a group.
class QuadsBefore {
 public:
  QuadsBefore(const Program& program, const LinearFields& op)
      : offsets_(is_sparse(op.format) ? program.constant<uint32_t>(op.offsets) : nullptr),
        dense_quads_((static_cast<uint64_t>(op.k) + 3) / 4) {}

  uint64_t operator()(int32_t group) const {
    return offsets_ ? offsets_[group] : static_cast<uint64_t>(group) * dense_quads_;
  }

 private:
  const uint32_t* offsets_;
  uint64_t dense_quads_;
};

// Sets groups[i] to the first group that has at least i / kGrains of the work before it; they are multiples of `step`.
// Returns the work of all groups.
uint64_t cut(const QuadsBefore& quads, int32_t group_count, int32_t step, int32_t* groups) {
  const auto before = [&](int32_t group) {
    return static_cast<uint64_t>(group) * kGroupWork + quads(group);
  };
  const uint64_t work = before(group_count);
  int32_t group = 0;
  for (int32_t i = 0; i < kGrains; ++i) {
    const uint64_t target = work * static_cast<uint64_t>(i) / kGrains;
    while (group < group_count && before(group) < target) group += step;
    if (group > group_count) group = group_count;
    groups[i] = group;
  }
  groups[kGrains] = group_count;
  return work;
}

// Bytes of one quad: the weights of four columns of R rows, and its columns as U16.
uint64_t bytes_of_quad(Format format) {
  return 4 * static_cast<uint64_t>(rows_of(format)) + 2 * static_cast<uint64_t>(numbers_of_quad(format));
}

// Groups that a kernel can only take together, because one record holds them.
int32_t groups_of_record(const Implementation& implementation, Format format) {
  return implementation.records == Records::All && is_sparse(format) && block_of(format) == 4 ? 4 : 1;
}

// The last check of a program, here because the threads share it: weights take long to come from memory, and those of
// dense linears are read for nothing else when a model is opened.
int32_t check_weights(const Program& program, ThreadPool& pool) {
  const auto bytes = [&](int32_t constant) {
    return program.consts[static_cast<size_t>(constant)].bytes;
  };
  Array<uint8_t> other;
  if (!other.allocate(program.ops.size())) return fail(OE_OUT_OF_MEMORY, "no memory to check the weights");
  parallel(pool, static_cast<int32_t>(program.ops.size()), [&](int32_t task, int32_t) {
    const auto op = static_cast<size_t>(task);
    if (program.ops[op].kind != OpKind::Linear) return;
    const int32_t weights = linear_fields(program.ops[op]).weights;
    if (weights != kAbsent) other[op] = !are_codes(program.constant<int8_t>(weights), bytes(weights));
  });
  for (size_t op = 0; op < program.ops.size(); ++op) {
    if (!other[op]) continue;
    const int32_t weights = linear_fields(program.ops[op]).weights;
    return OpCheck(program, op).codes("weights", weights, bytes(weights));
  }
  return OE_OK;
}

}  // namespace

int32_t LinearPlans::make(const Program& program, const Implementation& implementation, ThreadPool& pool) {
  size_t linears = 0;
  for (const Op& op : program.ops) linears += op.kind == OpKind::Linear;
  if (!plans_.allocate(program.ops.size()) || !groups_.allocate(linears * (kGrains + 1))) {
    return fail(OE_OUT_OF_MEMORY, "no memory for the plans of linears");
  }
  int32_t* groups = groups_.data();
  for (size_t i = 0; i < program.ops.size(); ++i) {
    if (program.ops[i].kind != OpKind::Linear) continue;
    const LinearFields op = linear_fields(program.ops[i]);
    if (!implementation.linear[static_cast<int32_t>(op.format)]) {
      return fail(OE_UNSUPPORTED, "op %zu (%s): the implementation '%s' has no kernel for the weight format %s", i,
                  program.ops[i].name, implementation.name, kFormatNames[static_cast<int32_t>(op.format)]);
    }
    const QuadsBefore quads(program, op);
    LinearPlan& plan = plans_[i];
    plan.traits = linear_traits(program, program.ops[i]);
    plan.work = cut(quads, op.groups, groups_of_record(implementation, op.format), groups);
    plan.bytes = quads(op.groups) * bytes_of_quad(op.format);
    plan.panel_bytes = static_cast<uint64_t>(op.k) * kPanel;
    plan.groups = groups;
    groups += kGrains + 1;
  }
  OE_CHECK(check_weights(program, pool));
  return prepacked_.prepack(program, implementation, pool);
}

// Every tile reads the panel again (a quarter of it at a time, from all its lines), so the panel has to stay in the
// cache too, with the quarter at hand; of what is left, half is for weights and half for what is written. Where that
// is little, reading the panel so often costs more than the weights that stay.
int32_t LinearPlan::grains_of_tile(uint64_t cache) const {
  const uint64_t kept = panel_bytes + panel_bytes / 4;
  if (cache <= kept) return kGrains;
  const uint64_t tile = (cache - kept) / 2;
  if (tile < panel_bytes / 4 || tile >= bytes) return kGrains;
  const uint64_t grains = tile * kGrains / bytes;
  return grains ? static_cast<int32_t>(grains) : 1;
}

}  // namespace oe
