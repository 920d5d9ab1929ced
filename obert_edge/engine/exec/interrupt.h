// Whether a run is to end before it is done: its caller is asked now and then, on the thread it came from.
#ifndef OBERT_EDGE_INTERRUPT_H
#define OBERT_EDGE_INTERRUPT_H

#include <stdint.h>

#include "base/clock.h"

namespace oe {

class Interrupt {
 public:
  using PollFn = int32_t (*)(void* context);

  // A run begins. `poll` returns 0 to go on; nullptr: nobody is asked.
  void start(PollFn poll, void* context) {
    poll_ = poll;
    context_ = context;
    due_ = poll ? now() + kInterval : 0;
    __atomic_store_n(&stopped_, false, __ATOMIC_RELAXED);
  }

  // Asks, if it is time to. Only the run's first thread may call this.
  void ask() {
    if (!poll_ || ++calls_ % kCallsPerClockRead != 0 || now() < due_) return;
    if (poll_(context_) != 0) __atomic_store_n(&stopped_, true, __ATOMIC_RELAXED);
    due_ = now() + kInterval;
  }

  bool stopped() const { return __atomic_load_n(&stopped_, __ATOMIC_RELAXED); }

 private:
  // A caller in Python waits for the interpreter's lock to answer, which another thread may hold for some 5 ms.
  static constexpr uint64_t kInterval = 100000000;  // nanoseconds between two questions
  static constexpr uint32_t kCallsPerClockRead = 4;

  PollFn poll_ = nullptr;
  void* context_ = nullptr;
  uint64_t due_ = 0;
  uint32_t calls_ = 0;
  bool stopped_ = false;
};

}  // namespace oe
#endif
