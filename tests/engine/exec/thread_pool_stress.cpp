// Short loops with and without pauses between them, for the thread sanitizer: see test_sanitizers.py.
#include <stdio.h>
#include <time.h>

#include "exec/thread_pool.h"

int main() {
  constexpr int32_t kTasks = 37;
  oe::ThreadPool pool;
  if (!pool.start(4)) return 2;
  int64_t sums[kTasks] = {};  // written by whichever thread runs the task: ordered by the pool alone
  struct Loop {
    int64_t* sums;
    int32_t number;
  };
  int64_t expected = 0;
  for (int32_t number = 1; number <= 3000; ++number) {
    Loop loop = {sums, number};
    pool.hesitate(number % 2 == 0);
    pool.parallel_for(
        kTasks,
        [](void* context, int32_t task, int32_t) {
          const Loop& here = *static_cast<Loop*>(context);
          here.sums[task] += here.number;
        },
        &loop);
    expected += number;
    if (number % 100 == 0) {  // long enough for the workers to fall asleep
      const timespec pause = {0, 1000000};
      nanosleep(&pause, nullptr);
    }
  }
  for (const int64_t sum : sums) {
    if (sum != expected) {
      printf("a task ran %lld instead of %lld\n", static_cast<long long>(sum), static_cast<long long>(expected));
      return 1;
    }
  }
  return 0;
}
