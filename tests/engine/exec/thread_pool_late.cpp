// A worker that has lost its CPU within a task is called to its caller's, and allowed all CPUs again afterwards.
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "exec/thread_pool.h"

namespace {

constexpr int32_t kLoops = 20, kTries = 100000;

cpu_set_t cpus_of(pid_t thread) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  sched_getaffinity(thread, sizeof cpus, &cpus);
  return cpus;
}

// Asleep, the worker's clock stands still as it does where another process has the CPU. False after some ten seconds.
template <class Condition>
bool sleep_until(const Condition& condition) {
  const timespec moment = {0, 100000};
  for (int32_t i = 0; i < kTries; ++i) {
    if (condition()) return true;
    nanosleep(&moment, nullptr);
  }
  return false;
}

struct Loop {
  pid_t worker;
  bool called;
};

void run_task(void* context, int32_t, int32_t thread) {
  Loop& loop = *static_cast<Loop*>(context);
  if (thread == 0) {  // until the worker has the other task
    sleep_until([&] { return __atomic_load_n(&loop.worker, __ATOMIC_SEQ_CST) != 0; });
    return;
  }
  __atomic_store_n(&loop.worker, static_cast<pid_t>(syscall(SYS_gettid)), __ATOMIC_SEQ_CST);
  const auto is_called = [] {
    const cpu_set_t cpus = cpus_of(0);
    return CPU_COUNT(&cpus) == 1;
  };
  if (sleep_until(is_called)) {
    loop.called = true;
  }
}

}  // namespace

int main() {
  const cpu_set_t usual = cpus_of(0);
  oe::ThreadPool pool;
  if (!pool.start(2)) return 2;
  for (int32_t i = 0; i < kLoops; ++i) {
    Loop loop = {0, false};
    pool.parallel_for(2, run_task, &loop);
    if (!loop.called) {
      printf("loop %d: nobody called the worker\n", i);
      return 1;
    }
    if (!sleep_until([&] {
          const cpu_set_t now = cpus_of(loop.worker);
          return CPU_EQUAL(&now, &usual) != 0;
        })) {
      printf("loop %d: the worker may use fewer CPUs than before\n", i);
      return 1;
    }
  }
  return 0;
}
