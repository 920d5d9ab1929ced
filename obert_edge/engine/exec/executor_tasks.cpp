// Cuts the ops of a step into tasks and hands them to the thread pool.
#include "base/clock.h"
#include "exec/executor.h"

namespace oe {

template <class Body>
void Executor::parallel(int32_t tasks, const Body& body) {
  pool_.parallel_for(
      tasks,
      [](void* context, int32_t task, int32_t thread) { (*static_cast<const Body*>(context))(task, thread); },
      const_cast<Body*>(&body));
}

template <class Body>
void Executor::parallel_columns(int32_t columns, int32_t smallest, const Body& body) {
  const int32_t padded = (columns + kStep - 1) / kStep * kStep;
  int32_t block = kPanel;
  while (block > smallest && (padded + block - 1) / block < pool_.threads()) block /= 2;
  parallel((padded + block - 1) / block, [&](int32_t task, int32_t) {
    const int32_t begin = task * block;
    body(begin, begin + block < padded ? begin + block : padded);
  });
}

// ---- steps of ops that know one panel at a time

// What a panel costs next to a panel of another width: narrow ones take longer than their share.
static uint64_t panel_cost(int32_t columns, int32_t panel) {
  return 32 + static_cast<uint64_t>(panel_width(columns, panel));
}

// Whether whole panels, one thread each, keep all threads busy. With as many panels as threads they would, but then
// nothing levels out what one thread is held up by.
bool Executor::panels_balance() const {
  constexpr uint64_t kWorthwhile = 85;  // percent of the threads' time
  if (panel_count(batch_.tokens) < 2 * pool_.threads()) return false;
  const uint64_t threads = static_cast<uint64_t>(pool_.threads());
  const uint64_t panels = static_cast<uint64_t>(panel_count(batch_.tokens));
  const uint64_t full = panel_cost(kPanel, 0), last = panel_cost(batch_.tokens, static_cast<int32_t>(panels) - 1);
  const uint64_t total = (panels - 1) * full + last;
  const uint64_t longest = (panels - 1) / threads * full + ((panels - 1) % threads ? full : last);
  return total * 100 >= longest * threads * kWorthwhile;
}

// The grains [begin, end) of a linear for one panel, in equal tiles: a kernel that passes over its groups once for every
// few tokens of the panel finds the weights of a tile in the cache each time but the first.
void Executor::run_tiles(int32_t index, LinearFn kernel, const LinearArgs& args, int32_t panel, int32_t begin,
                         int32_t end, int32_t thread) {
  const int32_t* groups = schedule_.grains(index);
  const int32_t most = schedule_.grains_of_tile(index, cache_bytes_);
  const int32_t tiles = (end - begin + most - 1) / most;
  for (int32_t tile = 0; tile < tiles; ++tile) {
    const int32_t first = groups[begin + (end - begin) * tile / tiles];
    const int32_t last = groups[begin + (end - begin) * (tile + 1) / tiles];
    if (first < last) kernel(args, panel, first, last, scratch_of(thread));
  }
}

// One panel through one op.
void Executor::run_panel(int32_t index, int32_t thread, int32_t panel) {
  const Op& op = program_.ops[static_cast<size_t>(index)];
  const int32_t begin = panel * kPanel, end = begin + panel_width(batch_.tokens, panel);
  switch (op.kind) {
    case OpKind::Embed:
      return kernels_.embed(embed_args(op), begin, end);
    case OpKind::LayerNorm:
      return kernels_.layer_norm(layer_norm_args(op), begin, end);
    case OpKind::Quantize:
      return kernels_.quantize(quantize_args(op), begin, end);
    case OpKind::QuantizeDynamic:
      return kernels_.quantize_dynamic(quantize_args(op), begin, end);
    case OpKind::Linear:
      return run_tiles(index, kernels_.linear[op.ints[linear_op::kFormat]], linear_args(op), panel, 0, Schedule::kGrains,
                       thread);
    case OpKind::Attention:
    case OpKind::SelectFirst:
    case OpKind::MeanPool:
    case OpKind::Output:
      break;  // never in a step by panels
  }
}

// One panel through all ops of the step: what an op writes is still in this core's cache when the next one reads it.
void Executor::run_panels(const Step& step, int32_t thread, int32_t panel) {
  uint64_t before = profiling_ ? now() : 0;
  for (int32_t i = step.first; i < step.first + step.count; ++i) {
    run_panel(i, thread, panel);
    if (!profiling_) continue;
    const uint64_t after = now();
    thread_times(thread)[i] += after - before;
    before = after;
  }
}

// Where several linears of one input are cut: a sequence of grains over panels, linears and their groups, in which
// equal distances are about equal work.
class LinearCut {
 public:
  LinearCut(const Schedule& schedule, int32_t first, int32_t count, int32_t columns)
      : schedule_(schedule), first_(first), count_(count), panels_(panel_count(columns)) {
    for (int32_t i = 0; i < count; ++i) panel_work_ += schedule.work(first + i);
    full_ = panel_work_ * panel_cost(kPanel, 0);
    last_ = panel_work_ * panel_cost(columns, panels_ - 1);
  }

  int32_t grains() const { return panels_ * count_ * Schedule::kGrains; }
  // Of all panels, in what takes as long as a quad of 64 tokens.
  uint64_t work() const {
    return (static_cast<uint64_t>(panels_ - 1) * full_ + last_) / panel_cost(kPanel, 0);
  }

  // The grain that has part / parts of the work before it.
  int32_t grain_at(uint64_t part, uint64_t parts) const {
    if (part == parts) return grains();
    const uint64_t all = static_cast<uint64_t>(panels_ - 1) * full_ + last_;
    uint64_t left = all / parts * part;
    uint64_t panel = full_ ? left / full_ : 0;
    if (panel >= static_cast<uint64_t>(panels_)) panel = static_cast<uint64_t>(panels_) - 1;
    left -= panel * full_;
    const bool is_last = panel + 1 == static_cast<uint64_t>(panels_);
    left /= is_last ? last_ / panel_work_ : full_ / panel_work_;
    int32_t linear = 0;
    while (linear + 1 < count_ && left >= schedule_.work(first_ + linear)) left -= schedule_.work(first_ + linear++);
    const uint64_t work = schedule_.work(first_ + linear);
    const uint64_t grain = left < work ? left * Schedule::kGrains / work : Schedule::kGrains;
    return (static_cast<int32_t>(panel) * count_ + linear) * Schedule::kGrains + static_cast<int32_t>(grain);
  }

 private:
  const Schedule& schedule_;
  const int32_t first_, count_, panels_;
  uint64_t panel_work_ = 0, full_ = 0, last_ = 0;
};

// How much of the work each task takes. Thread by thread: a large task, then ever smaller ones. They are in the
// order in which the pool hands them out (from both ends), so that the small ones in the middle, which level out what
// threads were held up by, come last.
class TaskSizes {
 public:
  TaskSizes(int32_t threads, uint64_t work) {
    constexpr uint64_t kSmallestTask = 512;  // quads: some microseconds
    const uint64_t most = work / kSmallestTask + 1;
    const uint64_t wanted = static_cast<uint64_t>(threads);
    levels_ = threads > 1 && most >= 8 * wanted ? kLevels : 1;
    const int32_t sharers = static_cast<int32_t>(most < wanted ? most : wanted);
    front_ = (sharers + 1) / 2;
    back_ = sharers / 2;
  }

  int32_t tasks() const { return levels_ * (front_ + back_); }
  uint64_t parts() const { return kParts * static_cast<uint64_t>(front_ + back_); }
  // The parts before task `task`.
  uint64_t parts_before(int32_t task) const {
    const int32_t front_tasks = levels_ * front_;
    if (task <= front_tasks) return before(task, front_);
    return parts() - before(tasks() - task, back_);
  }

 private:
  static constexpr int32_t kLevels = 4;
  static constexpr uint64_t kParts = 16;
  static constexpr uint64_t kSize[kLevels] = {9, 4, 2, 1};

  // The parts of the first `tasks` tasks as `sharers` threads take them.
  uint64_t before(int32_t tasks, int32_t sharers) const {
    if (levels_ == 1) return kParts * static_cast<uint64_t>(tasks);
    uint64_t parts = 0;
    for (int32_t level = 0; level < kLevels && tasks > 0; ++level, tasks -= sharers) {
      parts += kSize[level] * static_cast<uint64_t>(tasks < sharers ? tasks : sharers);
    }
    return parts;
  }

  int32_t levels_, front_, back_;
};

constexpr uint64_t TaskSizes::kSize[];

// `count` linears that do not depend on each other, all panels.
void Executor::run_linears(int32_t first, int32_t count) {
  LinearArgs args[Schedule::kTogether] = {};
  LinearFn kernels[Schedule::kTogether] = {};
  for (int32_t i = 0; i < count; ++i) {
    const Op& op = program_.ops[static_cast<size_t>(first + i)];
    args[i] = linear_args(op);
    kernels[i] = kernels_.linear[op.ints[linear_op::kFormat]];
  }
  const LinearCut cut(schedule_, first, count, args[0].tokens);
  const TaskSizes sizes(pool_.threads(), cut.work());
  parallel(sizes.tasks(), [&](int32_t task, int32_t thread) {
    int32_t grain = cut.grain_at(sizes.parts_before(task), sizes.parts());
    const int32_t end = cut.grain_at(sizes.parts_before(task + 1), sizes.parts());
    while (grain < end) {
      constexpr int32_t kGrains = Schedule::kGrains;
      const int32_t index = grain / kGrains, linear = index % count;
      const int32_t stop = end < (index + 1) * kGrains ? end : (index + 1) * kGrains;
      run_tiles(first + linear, kernels[linear], args[linear], index / count, grain - index * kGrains,
                stop - index * kGrains, thread);
      grain = stop;
    }
  });
}

void Executor::run_attention(const Op& op) {
  const AttentionArgs args = attention_args(op);
  parallel(batch_.sequences * args.heads, [&](int32_t task, int32_t thread) {
    kernels_.attention(args, task / args.heads, task % args.heads, scratch_of(thread));
  });
}

// Panels to row-major.
void Executor::run_output(const Op& op, float* destination) {
  const int32_t index = op.inputs[0];
  const int32_t columns = columns_of(program_.buffers[static_cast<size_t>(index)]);
  const size_t channels = static_cast<size_t>(op.ints[pool_op::kChannels]);
  const float* source = buffer<float>(index);
  parallel_columns(columns, kStep, [&](int32_t begin, int32_t end) {
    constexpr size_t kBlock = 16;  // channels, so that both sides stay in whole cache lines
    const int32_t panel = begin / kPanel;
    const size_t width = static_cast<size_t>(panel_width(columns, panel));
    const float* rows = source + static_cast<size_t>(panel) * kPanel * channels + begin % kPanel;
    const int32_t real = end < columns ? end : columns;
    for (size_t first = 0; first < channels; first += kBlock) {
      const size_t last = first + kBlock < channels ? first + kBlock : channels;
      for (int32_t t = begin; t < real; ++t) {
        float* out = destination + static_cast<size_t>(t) * channels;
        for (size_t c = first; c < last; ++c) out[c] = rows[c * width + static_cast<size_t>(t - begin)];
      }
    }
  });
}

// ---- one op, all panels

void Executor::run_op(int32_t index) {
  const Op& op = program_.ops[static_cast<size_t>(index)];
  switch (op.kind) {
    case OpKind::Embed: {
      const EmbedArgs args = embed_args(op);
      return parallel_columns(args.tokens, kStep,
                              [&](int32_t begin, int32_t end) { kernels_.embed(args, begin, end); });
    }
    case OpKind::LayerNorm: {
      const LayerNormArgs args = layer_norm_args(op);
      return parallel_columns(args.tokens, kPanel,
                              [&](int32_t begin, int32_t end) { kernels_.layer_norm(args, begin, end); });
    }
    case OpKind::Quantize:
    case OpKind::QuantizeDynamic: {
      const QuantizeArgs args = quantize_args(op);
      const QuantizeFn kernel = args.params ? kernels_.quantize_dynamic : kernels_.quantize;
      return parallel_columns(args.tokens, kPanel, [&](int32_t begin, int32_t end) { kernel(args, begin, end); });
    }
    case OpKind::Linear:
      return run_linears(index, 1);
    case OpKind::Attention:
      return run_attention(op);
    case OpKind::SelectFirst:
    case OpKind::MeanPool: {
      const PoolArgs args = pool_args(op);
      const PoolFn kernel = op.kind == OpKind::MeanPool ? kernels_.mean_pool : kernels_.select_first;
      return parallel(args.sequences, [&](int32_t sequence, int32_t) { kernel(args, sequence); });
    }
    case OpKind::Output:
      break;  // run() writes it to the caller's memory
  }
}

// ---- steps

void Executor::run_step(const Step& step) {
  uint64_t before = profiling_ ? now() : 0;
  if (step.by_panels && panels_balance()) {
    parallel(panel_count(batch_.tokens), [&](int32_t panel, int32_t thread) { run_panels(step, thread, panel); });
    if (profiling_) share_out(step, static_cast<double>(now() - before));
    return;
  }
  for (int32_t i = step.first, count; i < step.first + step.count; i += count) {
    const bool linear = program_.ops[static_cast<size_t>(i)].kind == OpKind::Linear;
    count = linear ? schedule_.together(i) : 1;
    if (linear) {
      run_linears(i, count);
    } else {
      run_op(i);
    }
    if (!profiling_) continue;
    const uint64_t after = now();
    for (int32_t j = i; j < i + count; ++j) thread_times(0)[j] = linear ? schedule_.work(j) : 1;
    share_out({i, count, false}, static_cast<double>(after - before));
    before = after;
  }
}

// Adds the time of a step to that of its ops, by what all threads together spent on each.
void Executor::share_out(const Step& step, double nanoseconds) {
  double all = 0;
  for (int32_t thread = 0; thread < pool_.threads(); ++thread) {
    for (int32_t i = step.first; i < step.first + step.count; ++i) all += static_cast<double>(thread_times(thread)[i]);
  }
  for (int32_t i = step.first; i < step.first + step.count; ++i) {
    double own = 0;
    for (int32_t thread = 0; thread < pool_.threads(); ++thread) {
      own += static_cast<double>(thread_times(thread)[i]);
      thread_times(thread)[i] = 0;
    }
    if (all > 0) op_nanoseconds_[static_cast<size_t>(i)] += static_cast<uint64_t>(own / all * nanoseconds);
  }
}

}  // namespace oe
