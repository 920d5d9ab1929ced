// A small thread pool for many short parallel loops: the ops of one run.
//
// Workers spin for a short while after a loop, because the next one is usually microseconds away, and then
// sleep on a futex; waking sleepers is the only system call. The caller works too, and waits only for tasks
// that were claimed, never for a worker that was not scheduled: so more threads than cores is slow, not stuck.
#ifndef OBERT_EDGE_THREAD_POOL_H
#define OBERT_EDGE_THREAD_POOL_H

#include <pthread.h>
#include <stdint.h>

#include "array.h"

namespace oe {

class ThreadPool {
 public:
  // Runs task `task` on thread `thread` (0: the caller, below threads()).
  using TaskFn = void (*)(void* context, int32_t task, int32_t thread);

  ThreadPool() = default;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  // Starts threads - 1 workers. False when the system gives no more threads.
  [[nodiscard]] bool start(int32_t threads);

  int32_t threads() const { return threads_; }

  // Calls `function` once for every task in [0, tasks), in any order, and returns when all are done.
  void parallel_for(int32_t tasks, TaskFn function, void* context);

 private:
  struct Worker {
    ThreadPool* pool;
    pthread_t handle;
    int32_t thread;
  };

  static void* worker_main(void* worker);
  void work(int32_t thread);
  bool claim(int32_t* task);
  void wait_for_work();

  // What is left of the current loop, and the number of the loop it belongs to: loop << 32 | tasks left. A claim
  // is one compare-and-swap on both, so a worker that comes late can never take a task of another loop.
  alignas(64) uint64_t state_ = 0;
  alignas(64) int32_t finished_ = 0;  // tasks of the current loop
  alignas(64) uint32_t wakeups_ = 0;  // the futex workers sleep on
  int32_t sleepers_ = 0;
  bool stopping_ = false;

  // Of the current loop: written before state_ announces it, read after a task of it was claimed.
  alignas(64) TaskFn function_ = nullptr;
  void* context_ = nullptr;
  int32_t tasks_ = 0;

  int32_t threads_ = 1;
  bool crowded_ = false;  // more threads than cores: do not spin
  Array<Worker> workers_;
};

}  // namespace oe
#endif
