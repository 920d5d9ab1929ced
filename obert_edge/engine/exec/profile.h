// The time each op takes, summed over runs. Ops of a step run interleaved on several threads, so the time of a step is
// measured as a whole and shared out among its ops by what all threads together spent on each.
#ifndef OBERT_EDGE_PROFILE_H
#define OBERT_EDGE_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/array.h"

namespace oe {

class Profile {
 public:
  // False when there is no memory.
  [[nodiscard]] bool start(size_t ops, int32_t threads);

  // Measures from now on, starting at zero; or stops, and keeps what was found.
  void enable(bool enable);
  bool enabled() const { return enabled_; }

  // Notes what a thread spent on an op of the step at hand, in any unit.
  void spend(int32_t thread, int32_t op, uint64_t amount) { of_thread(thread)[op] += amount; }

  // Ends a step: shares the `nanoseconds` it took out among ops [first, first + count), in proportion to what was
  // spent.
  void share_out(int32_t first, int32_t count, uint64_t nanoseconds);

  void end_run() { runs_ += enabled_; }

  const Array<uint64_t>& nanoseconds() const { return nanoseconds_; }
  uint64_t runs() const { return runs_; }

 private:
  uint64_t* of_thread(int32_t thread) { return spent_.data() + static_cast<size_t>(thread) * nanoseconds_.size(); }

  bool enabled_ = false;
  int32_t threads_ = 0;
  uint64_t runs_ = 0;
  Array<uint64_t> nanoseconds_;  // of every op
  Array<uint64_t> spent_;        // [threads][ops], of the step at hand
};

}  // namespace oe
#endif
