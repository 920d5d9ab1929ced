#include "exec/balance.h"

#include "kernels/kernels.h"

namespace oe {
namespace {

// The time of a panel, relative to panels of other widths: narrow ones take longer than their share.
uint64_t panel_cost(int32_t tokens, int32_t panel) { return 32 + static_cast<uint64_t>(panel_width(tokens, panel)); }

// The sizes of a thread's tasks, of kParts in all.
constexpr int32_t kLevels = 4;
constexpr uint64_t kSize[kLevels] = {9, 4, 2, 1};

}  // namespace

// One panel per thread would balance as well, but then nothing could make up for a thread that is held up: so at least
// two are asked for.
bool panels_balance(int32_t tokens, int32_t thread_count) {
  constexpr uint64_t kWorthwhile = 85;  // percent of the threads' time
  if (panel_count(tokens) < 2 * thread_count) return false;
  const uint64_t threads = static_cast<uint64_t>(thread_count);
  const uint64_t panels = static_cast<uint64_t>(panel_count(tokens));
  const uint64_t full = panel_cost(kPanel, 0), last = panel_cost(tokens, static_cast<int32_t>(panels) - 1);
  const uint64_t total = (panels - 1) * full + last;
  const uint64_t longest = (panels - 1) / threads * full + ((panels - 1) % threads ? full : last);
  return total * 100 >= longest * threads * kWorthwhile;
}

GrainCut::GrainCut(const uint64_t* work, int32_t count, int32_t tokens)
    : work_(work), count_(count), panels_(panel_count(tokens)) {
  for (int32_t i = 0; i < count; ++i) panel_work_ += work[i];
  full_ = panel_work_ * panel_cost(kPanel, 0);
  last_ = panel_work_ * panel_cost(tokens, panels_ - 1);
}

uint64_t GrainCut::work() const { return (static_cast<uint64_t>(panels_ - 1) * full_ + last_) / panel_cost(kPanel, 0); }

int32_t GrainCut::grain_at(uint64_t part, uint64_t parts) const {
  if (part == parts) return grains();
  const uint64_t all = static_cast<uint64_t>(panels_ - 1) * full_ + last_;
  uint64_t left = all / parts * part;
  uint64_t panel = full_ ? left / full_ : 0;
  if (panel >= static_cast<uint64_t>(panels_)) panel = static_cast<uint64_t>(panels_) - 1;
  left -= panel * full_;
  const bool is_last = panel + 1 == static_cast<uint64_t>(panels_);
  left /= is_last ? last_ / panel_work_ : full_ / panel_work_;
  int32_t linear = 0;
  while (linear + 1 < count_ && left >= work_[linear]) left -= work_[linear++];
  const uint64_t grain = left < work_[linear] ? left * kGrains / work_[linear] : kGrains;
  return (static_cast<int32_t>(panel) * count_ + linear) * kGrains + static_cast<int32_t>(grain);
}

TaskSizes::TaskSizes(int32_t threads, uint64_t work) {
  constexpr uint64_t kSmallestTask = 512;  // quads of a full panel: some microseconds
  const uint64_t most = work / kSmallestTask + 1;
  const uint64_t wanted = static_cast<uint64_t>(threads);
  levels_ = threads > 1 && most >= 8 * wanted ? kLevels : 1;
  const int32_t sharers = static_cast<int32_t>(most < wanted ? most : wanted);
  front_ = (sharers + 1) / 2;
  back_ = sharers / 2;
}

uint64_t TaskSizes::parts_before(int32_t task) const {
  const int32_t front_tasks = levels_ * front_;
  if (task <= front_tasks) return parts_of_first(task, front_);
  return parts() - parts_of_first(tasks() - task, back_);
}

// The parts of the first `tasks` tasks, as `sharers` threads take them from one end.
uint64_t TaskSizes::parts_of_first(int32_t tasks, int32_t sharers) const {
  if (levels_ == 1) return kParts * static_cast<uint64_t>(tasks);
  uint64_t parts = 0;
  for (int32_t level = 0; level < kLevels && tasks > 0; ++level, tasks -= sharers) {
    parts += kSize[level] * static_cast<uint64_t>(tasks < sharers ? tasks : sharers);
  }
  return parts;
}

}  // namespace oe
