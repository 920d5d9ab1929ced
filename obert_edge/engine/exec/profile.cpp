#include "exec/profile.h"

namespace oe {

bool Profile::start(size_t ops, int32_t threads) {
  threads_ = threads;
  return nanoseconds_.allocate(ops) && spent_.allocate(ops * static_cast<size_t>(threads));
}

void Profile::enable(bool enable) {
  enabled_ = enable;
  if (!enable) return;
  for (uint64_t& nanoseconds : nanoseconds_) nanoseconds = 0;
  runs_ = 0;
}

void Profile::share_out(int32_t first, int32_t count, uint64_t nanoseconds) {
  double all = 0;
  for (int32_t thread = 0; thread < threads_; ++thread) {
    for (int32_t op = first; op < first + count; ++op) all += static_cast<double>(of_thread(thread)[op]);
  }
  for (int32_t op = first; op < first + count; ++op) {
    double own = 0;
    for (int32_t thread = 0; thread < threads_; ++thread) {
      own += static_cast<double>(of_thread(thread)[op]);
      of_thread(thread)[op] = 0;
    }
    if (all > 0) {
      nanoseconds_[static_cast<size_t>(op)] += static_cast<uint64_t>(own / all * static_cast<double>(nanoseconds));
    }
  }
}

}  // namespace oe
