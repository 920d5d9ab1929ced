// Threads that hesitate help all the same: the worker holds its first task until all others are done, its own among them.
#include <stdio.h>

#include "exec/thread_pool.h"

namespace {

constexpr int32_t kTasks = 8, kLoops = 200;

struct Loop {
  int32_t done;
  int32_t helped;  // tasks of the worker's end that the caller did
};

void run_task(void* context, int32_t task, int32_t thread) {
  Loop& loop = *static_cast<Loop*>(context);
  if (thread == 1) {
    while (__atomic_load_n(&loop.done, __ATOMIC_SEQ_CST) != kTasks - 1) {
    }
  } else if (task >= kTasks / 2) {
    ++loop.helped;
  }
  __atomic_add_fetch(&loop.done, 1, __ATOMIC_SEQ_CST);
}

}  // namespace

int main() {
  oe::ThreadPool pool;
  if (!pool.start(2)) return 2;
  pool.hesitate(true);
  for (int32_t i = 0; i < kLoops; ++i) {
    Loop loop = {0, 0};
    pool.parallel_for(kTasks, run_task, &loop);
    if (loop.done != kTasks || loop.helped < kTasks / 2 - 1) {
      printf("loop %d: %d tasks done, %d by helping\n", i, loop.done, loop.helped);
      return 1;
    }
  }
  return 0;
}
