// A small thread pool for many short parallel loops: the ops of one run.
//
// Tasks are claimed from both ends: the caller and every second worker take the first ones, the others the last ones.
// So with tasks in the order of the memory they use, a thread stays in its part of it from loop to loop, and the ones
// in the middle go to whoever is done first.
//
// Where the ends use memory of their own, threads hesitate before they help the other end: what a task uses lies in the
// other thread's caches, and a thread that is about as fast will soon come to it itself. Between cores without a common
// cache a line takes 200 ns, so that helping with the last sixteenth of a linear took longer than half of the linear.
//
// Workers spin for a short while after a loop, because the next one is usually microseconds away, and then
// sleep on a futex; on a quiet machine waking sleepers is the only system call. The caller works too, and waits only
// for tasks that were claimed, never for a worker that was not scheduled: so more threads than cores is slow, not
// stuck.
//
// Beside other work a worker loses its CPU now and then, most often within a task, and would get it back some
// milliseconds later. The caller, which has nothing else to do, sees that the worker's CPU clock stands still, and calls
// the worker to its own CPU (by affinity), where it finishes the task and leaves again: to wait, without a task, for
// the CPU that it shares with the other work.
#ifndef OBERT_EDGE_THREAD_POOL_H
#define OBERT_EDGE_THREAD_POOL_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/array.h"
#include "exec/interrupt.h"

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

  // Whether this process is a fork of the one that started the workers: threads do not survive a fork.
  bool forked() const;

  // Starts the workers anew in such a process, at most as many as there were; what they were doing is forgotten.
  void restart();

  int32_t threads() const { return threads_; }

  // Calls `function` once for every task in [0, tasks), in any order, and returns when all are done. From when a watched
  // run is stopped, tasks are left out.
  void parallel_for(int32_t tasks, TaskFn function, void* context);

  // Whether threads hesitate before they help the other end, from here on. Not while a loop runs.
  void hesitate(bool hesitates) { __atomic_store_n(&hesitates_, hesitates, __ATOMIC_SEQ_CST); }

  // Asks `interrupt` between tasks from here on; nullptr: no more. Not while a loop runs.
  void watch(Interrupt* interrupt) { interrupt_ = interrupt; }

 private:
  // Which CPUs a worker may use. Only who made it kMoving changes that.
  static constexpr int32_t kUsual = 0, kMoving = 1, kCalled = 2;

  struct Worker {
    ThreadPool* pool;
    pthread_t handle;
    int32_t thread;
    pid_t id;         // the system's
    clockid_t clock;  // of its CPU time
    bool holds;       // tasks it claimed, and is not done with
    int32_t place;
    cpu_set_t usual;  // while it is called: the CPUs it may use otherwise
    uint64_t seen;    // its clock when the caller looked at it last
  };

  // Tasks [first, last) of loop `number` are unclaimed. A claim is one compare-and-swap on the whole word, so a worker
  // that comes late can never take a task of another loop.
  struct Unclaimed {
    explicit Unclaimed(uint64_t word) : word(word) {}
    Unclaimed(uint32_t number, int32_t first, int32_t last)
        : word(uint64_t{number} << 2 * kTaskBits | static_cast<uint64_t>(last) << kTaskBits |
               static_cast<uint64_t>(first)) {}
    uint32_t number() const { return static_cast<uint32_t>(word >> 2 * kTaskBits); }
    int32_t last() const { return static_cast<int32_t>(word >> kTaskBits) & kMostTasks; }
    int32_t first() const { return static_cast<int32_t>(word) & kMostTasks; }
    bool any() const { return first() < last(); }

    uint64_t word;
  };
  static constexpr int kTaskBits = 20;
  static constexpr int32_t kMostTasks = (1 << kTaskBits) - 1;  // of one loop

  bool start_workers(int32_t threads);
  static void* worker_main(void* worker);
  void run_loop(int32_t tasks);
  void work(int32_t thread);
  void wait_for_claimed(int32_t tasks);
  bool call_late_workers();
  void call(Worker& worker);
  static void leave(Worker& worker);
  void run_task(int32_t task, int32_t thread);
  bool claim(int32_t thread, bool* helps, int32_t* task);
  Unclaimed unclaimed() const;
  void wait_for_work(Worker& worker);

  // One cache line tells a worker everything: what to do, written first, and the tasks that are left of it.
  alignas(64) uint64_t state_ = 0;
  TaskFn function_ = nullptr;
  void* context_ = nullptr;
  Interrupt* interrupt_ = nullptr;
  int32_t first_task_ = 0;   // the number of the loop's task 0
  int32_t caller_cpu_ = -1;  // where the caller began the loop
  bool hesitates_ = false;
  int32_t middle_ = 0;  // where they hesitate: the first task of the end that workers 1, 3, .. begin at
  uint64_t begun_ = 0;  // and when the loop began

  alignas(64) int32_t finished_ = 0;  // tasks of the current loop
  alignas(64) uint32_t wakeups_ = 0;  // the futex workers sleep on
  int32_t sleepers_ = 0;
  bool stopping_ = false;

  int32_t threads_ = 1;
  uint32_t forks_ = 0;    // that lie behind the process which started the workers
  bool crowded_ = false;  // more threads than cores: do not spin
  Array<Worker> workers_;
};

}  // namespace oe
#endif
