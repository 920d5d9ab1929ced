// Linear: `y = activation(x W^T + b) (+ residual)`. Its weights are packed in groups of output rows (the layouts:
// obert_edge/bundle/packing.py); what is made of them when a model is opened is in linear_plans.h.
#include <string.h>

#include "exec/balance.h"
#include "exec/parallel.h"
#include "ops/definition.h"
#include "ops/linear_plans.h"

namespace oe {
namespace {

// ---- what it accepts

// Every output channel must be written exactly once: a missing one would keep the values of another buffer.
int32_t check_rows(const OpCheck& check, const LinearFields& op) {
  const int64_t packed = static_cast<int64_t>(op.groups) * rows_of(op.format);
  OE_CHECK(check.constant("rows", op.rows, static_cast<uint64_t>(packed) * 4));
  const uint32_t* rows = check.program.constant<uint32_t>(op.rows);
  Array<uint8_t> seen;
  if (!seen.allocate(static_cast<size_t>(op.n))) return fail(OE_OUT_OF_MEMORY, "no memory to check the program");
  int64_t written = 0;
  for (int64_t i = 0; i < packed; ++i) {
    if (rows[i] == kPadRow) continue;
    if (rows[i] >= static_cast<uint32_t>(op.n)) {
      OE_REFUSE(check, "its rows[%lld] is channel %u; the output has %d", static_cast<long long>(i), rows[i], op.n);
    }
    if (seen[rows[i]]++) OE_REFUSE(check, "its rows name output channel %u twice", rows[i]);
    ++written;
  }
  if (written != op.n) {
    OE_REFUSE(check, "its rows name %lld of %d output channels", static_cast<long long>(written), op.n);
  }
  return OE_OK;
}

// Dense: every column of every group, in order; kernels do not load channels from k on, so weights there must be zero.
int32_t check_dense_weights(const OpCheck& check, const LinearFields& op) {
  const uint64_t groups = static_cast<uint64_t>(op.groups);
  const uint64_t quads = (static_cast<uint64_t>(op.k) + 3) / 4;
  const uint64_t quad_bytes = 4 * static_cast<uint64_t>(rows_of(op.format));
  OE_CHECK(check.constant("columns", op.columns, 0));
  if (op.offsets != kAbsent) OE_CHECK(check.constant("offsets", op.offsets, (groups + 1) * 4));
  OE_CHECK(check.constant("weights", op.weights, groups * quads * quad_bytes));
  const int8_t* weights = check.program.constant<int8_t>(op.weights);
  const uint64_t real = static_cast<uint64_t>(op.k % 4);  // columns of the last quad
  for (uint64_t group = 0; real && group < groups; ++group) {
    const int8_t* last = weights + ((group + 1) * quads - 1) * quad_bytes;
    for (uint64_t i = 0; i < quad_bytes; ++i) {
      if (i % 4 >= real && last[i]) {
        OE_REFUSE(check, "group %llu has a weight beyond its %d inputs", static_cast<unsigned long long>(group), op.k);
      }
    }
  }
  return OE_OK;
}

// The masks of a group have as many bits as its offsets say quads; none is beyond k.
int32_t check_masks(const OpCheck& check, const LinearFields& op) {
  const int32_t numbers = numbers_of_quad(op.format);
  const size_t bytes = mask_bytes(op.format, op.k), bits = static_cast<size_t>(op.k / block_of(op.format));
  OE_CHECK(check.constant("columns", op.columns, static_cast<uint64_t>(op.groups) * bytes));
  const uint8_t* mask = check.program.constant<uint8_t>(op.columns);
  const uint32_t* offsets = check.program.constant<uint32_t>(op.offsets);
  for (int32_t group = 0; group < op.groups; ++group, mask += bytes) {
    uint32_t set = 0;
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
      uint64_t word;
      memcpy(&word, mask + i, sizeof word);
      set += static_cast<uint32_t>(__builtin_popcountll(word));
    }
    for (; i < bytes; ++i) set += static_cast<uint32_t>(__builtin_popcount(mask[i]));
    const uint32_t quads = (set + static_cast<uint32_t>(numbers) - 1) / static_cast<uint32_t>(numbers);
    const uint32_t stored = offsets[group + 1] - offsets[group];
    if (quads != stored) {
      OE_REFUSE(check, "the mask of group %d has %u bits set; its offsets say %u blocks of four columns", group, set,
                stored);
    }
    if (bits % 8 && mask[bytes - 1] >> bits % 8) {
      OE_REFUSE(check, "the mask of group %d has a bit beyond its %d inputs", group, op.k);
    }
  }
  return OE_OK;
}

int32_t check_list(const OpCheck& check, const LinearFields& op, uint64_t quads) {
  const uint64_t listed = quads * static_cast<uint64_t>(numbers_of_quad(op.format));
  OE_CHECK(check.constant("columns", op.columns, listed * 2));
  const uint16_t* columns = check.program.constant<uint16_t>(op.columns);
  const int32_t last = op.k - block_of(op.format);
  // First the largest of all, in a loop the compiler can vectorize: millions of columns are checked at every load.
  uint16_t largest = 0;
  for (uint64_t i = 0; i < listed; ++i) largest = columns[i] > largest ? columns[i] : largest;
  for (uint64_t i = 0; listed && largest > last && i < listed; ++i) {
    if (columns[i] > last) {
      OE_REFUSE(check, "its columns[%llu] is input channel %u; the largest possible is %d",
                static_cast<unsigned long long>(i), columns[i], last);
    }
  }
  // Some kernels read a block from its multiple of four, so that another start would give other results there.
  const uint16_t beside = static_cast<uint16_t>(block_of(op.format) - 1);
  uint16_t odd = 0;
  for (uint64_t i = 0; beside && i < listed; ++i) odd |= columns[i] & beside;
  for (uint64_t i = 0; odd && i < listed; ++i) {
    if (columns[i] & beside) {
      OE_REFUSE(check, "its columns[%llu] is input channel %u; a block of four starts at a multiple of four",
                static_cast<unsigned long long>(i), columns[i]);
    }
  }
  return OE_OK;
}

int32_t check_sparse_weights(const OpCheck& check, const LinearFields& op) {
  constexpr uint32_t kMost = kMaxColumnsOfGroup / 4;
  OE_CHECK(check.constant("offsets", op.offsets, (static_cast<uint64_t>(op.groups) + 1) * 4));
  const uint32_t* offsets = check.program.constant<uint32_t>(op.offsets);
  if (offsets[0] != 0) OE_REFUSE(check, "its offsets start at %u; they must start at 0", offsets[0]);
  for (int32_t group = 0; group < op.groups; ++group) {
    if (offsets[group + 1] < offsets[group]) OE_REFUSE(check, "its offsets fall at group %d", group);
    if (offsets[group + 1] - offsets[group] > kMost) {
      OE_REFUSE(check, "group %d has %u blocks of four columns; the limit is %u", group,
                offsets[group + 1] - offsets[group], kMost);
    }
  }
  const uint64_t quads = offsets[op.groups];
  OE_CHECK(check.constant("weights", op.weights, quads * static_cast<uint64_t>(rows_of(op.format)) * 4));
  OE_CHECK(
      check.in_range("column_coding", static_cast<int32_t>(op.column_coding), kFirstColumnCoding, kLastColumnCoding));
  return op.column_coding == ColumnCoding::Masks ? check_masks(check, op) : check_list(check, op, quads);
}

int32_t check_epilogue(const OpCheck& check, const LinearFields& op) {
  // The range of the output's type; a float output is checked too, where kernels may compute with these all the same.
  const DType type = check.program.buffer(op.output).dtype;
  const int32_t lowest = type == DType::U8 ? 0 : kLeastCode, highest = type == DType::S8 ? 127 : 255;
  OE_CHECK(check.in_range("lo", op.lo, lowest, highest));
  OE_CHECK(check.in_range("hi", op.hi, op.lo, highest));
  OE_CHECK(check.in_range("zero_point", op.zero_point, lowest, highest));
  if (type == DType::F32) return OE_OK;
  OE_CHECK(check.distinct("residual", op.residual, "8-bit output", op.output));
  return check.positive("inv_scale", op.inv_scale);
}

int32_t check_op(const OpCheck& check) {
  const LinearFields op = linear_fields(check.op);
  OE_CHECK(check.in_range("k", op.k, 1, kMaxInputChannels));
  OE_CHECK(check.in_range("n", op.n, 1, kMaxChannels));
  OE_CHECK(check.in_range("groups", op.groups, 1, op.n));
  OE_CHECK(check.in_range("format", static_cast<int32_t>(op.format), kFirstFormat, kLastFormat));
  OE_CHECK(check.in_range("activation", static_cast<int32_t>(op.activation), kFirstActivation, kLastActivation));
  OE_CHECK(check.buffer("input", op.input, kU8, op.k));
  OE_CHECK(check.buffer("params", op.params, kF32, 2, true));
  OE_CHECK(check.buffer("residual", op.residual, kF32, op.n, true));
  OE_CHECK(check.buffer("output", op.output, kU8 | kS8 | kF32, op.n));
  OE_CHECK(check.domain("params", op.params, check.domain_of(op.input)));
  OE_CHECK(check.domain("residual", op.residual, check.domain_of(op.input)));
  OE_CHECK(check.domain("output", op.output, check.domain_of(op.input)));
  OE_CHECK(check.distinct("input", op.input, "output", op.output));
  OE_CHECK(check.distinct("params", op.params, "output", op.output));
  OE_CHECK(check_epilogue(check, op));
  OE_CHECK(check_rows(check, op));
  OE_CHECK(is_sparse(op.format) ? check_sparse_weights(check, op) : check_dense_weights(check, op));
  OE_CHECK(check.floats("scale", op.scale, op.n));
  OE_CHECK(check.floats("bias", op.bias, op.n));
  return check.constant("correction", op.correction, static_cast<uint64_t>(op.n) * 4);
}

// The zero points of a per-token linear must be the ones its input was quantized with: any other float could lie
// outside int32.
int32_t check_sources(const OpCheck& check, const Dataflow& dataflow) {
  const LinearFields op = linear_fields(check.op);
  if (op.params == kAbsent) return OE_OK;
  const Op* writer = dataflow.writer_of(op.params);
  if (writer == dataflow.writer_of(op.input) && writer->kind == OpKind::QuantizeDynamic) return OE_OK;
  return fail(OE_INVALID_PROGRAM, "op %zu (%s): its params do not come from the op that quantized its input",
              check.index, check.op.name);
}

// ---- how it runs

LinearArgs args_of(const Run& run, int32_t index) {
  const Op& record = run.op(index);
  const LinearFields op = linear_fields(record);
  const Program& program = run.program;
  const Prepacked& prepacked = run.linears.prepacked();
  const LinearTraits& traits = run.linears[index].traits;
  LinearArgs args = {};
  args.input = run.buffer<uint8_t>(op.input);
  args.params = run.buffer<float>(op.params);
  args.residual = run.buffer<float>(op.residual);
  args.output = run.buffer<void>(op.output);
  args.out_type = program.buffer(op.output).dtype;
  args.activation = op.activation;
  args.tokens = run.tokens_of(op.output);
  args.k = op.k;
  args.n = op.n;
  args.groups = op.groups;
  args.rows = program.constant<uint32_t>(op.rows);
  args.offsets = program.constant<uint32_t>(op.offsets);
  args.columns = prepacked.columns(record);
  args.weights = program.constant<int8_t>(op.weights);
  args.records = prepacked.records(record);
  args.record_offsets = prepacked.record_offsets(record);
  args.hard = prepacked.hard(record);
  args.by_twos = prepacked.by_twos(record);
  args.scale = program.constant<float>(op.scale);
  args.bias = program.constant<float>(op.bias);
  args.correction = program.constant<int32_t>(op.correction);
  args.bias_terms = prepacked.bias_terms(record);
  args.rounds_to_int32 = traits.rounds_to_int32;
  args.rows_are_neighbors = traits.rows_are_neighbors;
  args.zero_point = op.zero_point;
  args.lo = op.lo;
  args.hi = op.hi;
  args.inv_scale = op.inv_scale;
  return args;
}

LinearFn kernel_of(const Run& run, int32_t index) { return run.kernels.linear[run.op(index).ints[linear_op::kFormat]]; }

size_t scratch(const Run& run, int32_t index) { return run.kernels.linear_scratch(args_of(run, index)); }

// The grains [begin, end) for one panel, in equal tiles: a kernel that passes over its groups once for every few tokens
// of the panel finds the weights of a tile in the cache each time but the first. Whether the scratch holds the panel
// afterwards; the grains of a small linear may have no groups.
bool run_tiles(const Run& run, const LinearPlan& plan, LinearFn kernel, const LinearArgs& args, int32_t panel,
               int32_t begin, int32_t end, LinearScratch scratch) {
  const int32_t most = plan.grains_of_tile(run.cache_bytes);
  const int32_t tiles = (end - begin + most - 1) / most;
  for (int32_t tile = 0; tile < tiles; ++tile) {
    const int32_t first = plan.groups[begin + (end - begin) * tile / tiles];
    const int32_t last = plan.groups[begin + (end - begin) * (tile + 1) / tiles];
    if (first >= last) continue;
    kernel(args, panel, first, last, scratch);
    scratch.holds_panel = true;
  }
  return scratch.holds_panel;
}

void run_panel(const Run& run, int32_t index, int32_t panel, int32_t thread) {
  const LinearScratch scratch = {run.scratch.of(thread), false};
  run_tiles(run, run.linears[index], kernel_of(run, index), args_of(run, index), panel, 0, kGrains, scratch);
}

// `count` linears that do not depend on each other, all panels.
void run_batch(const Run& run, int32_t first, int32_t count) {
  LinearArgs args[kTogether] = {};
  LinearFn kernels[kTogether] = {};
  uint64_t work[kTogether] = {};
  for (int32_t i = 0; i < count; ++i) {
    args[i] = args_of(run, first + i);
    kernels[i] = kernel_of(run, first + i);
    work[i] = run.linears[first + i].work;
  }
  const GrainCut cut(work, count, args[0].tokens);
  const TaskSizes sizes(run.pool.threads(), cut.work());
  run.scratch.forget();
  parallel(run.pool, sizes.tasks(), [&](int32_t task, int32_t thread) {
    int32_t grain = cut.grain_at(sizes.parts_before(task), sizes.parts());
    const int32_t end = cut.grain_at(sizes.parts_before(task + 1), sizes.parts());
    while (grain < end) {
      const int32_t piece = grain / kGrains, linear = piece % count;  // a piece: one panel of one linear
      const int32_t panel = piece / count;
      const int32_t stop = end < (piece + 1) * kGrains ? end : (piece + 1) * kGrains;
      const uintptr_t maker = reinterpret_cast<uintptr_t>(kernels[linear]);
      const LinearScratch scratch = {run.scratch.of(thread), run.scratch.holds(thread, maker, panel)};
      const bool held = run_tiles(run, run.linears[first + linear], kernels[linear], args[linear], panel,
                                  grain - piece * kGrains, stop - piece * kGrains, scratch);
      if (held) run.scratch.note(thread, maker, panel);
      grain = stop;
    }
  });
}

// Linears of one input (query, key and value) have too little work each for many threads.
bool joins(const Op& op, const Op& next) {
  if (next.kind != OpKind::Linear) return false;
  const LinearFields a = linear_fields(op), b = linear_fields(next);
  return a.input == b.input && a.params == b.params;
}

uint64_t work(const Run& run, int32_t index) { return run.linears[index].work; }

constexpr OpDefinition define() {
  OpDefinition op;
  op.check = check_op;
  op.check_sources = check_sources;
  op.scratch = scratch;
  op.run = run_batch;
  op.run_panel = run_panel;
  op.joins = joins;
  op.work = work;
  return op;
}

}  // namespace

const OpDefinition kLinearDefinition = define();

}  // namespace oe
