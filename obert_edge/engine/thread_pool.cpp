#include "thread_pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "float_mode.h"

namespace oe {
namespace {

constexpr int64_t kSpinNanoseconds = 100000;
constexpr int32_t kSpinsPerClockRead = 32;

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

int64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1000000000 + t.tv_nsec;
}

void futex_wait(uint32_t* word, uint32_t expected) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}
void futex_wake_all(uint32_t* word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

template <class T>
T load(const T* value) {
  return __atomic_load_n(value, __ATOMIC_SEQ_CST);
}
template <class T>
void store(T* value, T desired) {
  __atomic_store_n(value, desired, __ATOMIC_SEQ_CST);
}
template <class T>
T add(T* value, T amount) {
  return __atomic_add_fetch(value, amount, __ATOMIC_SEQ_CST);
}

uint32_t tasks_left(uint64_t state) { return static_cast<uint32_t>(state); }

int32_t cores() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
  return static_cast<int32_t>(sysconf(_SC_NPROCESSORS_ONLN));
}

}  // namespace

bool ThreadPool::start(int32_t threads) {
  threads_ = 1;
  crowded_ = threads > cores();
  if (!workers_.allocate(static_cast<size_t>(threads - 1))) return false;
  for (int32_t i = 1; i < threads; ++i) {
    Worker& worker = workers_[static_cast<size_t>(i - 1)];
    worker.pool = this;
    worker.thread = i;
    if (pthread_create(&worker.handle, nullptr, worker_main, &worker) != 0) return false;
    threads_ = i + 1;
  }
  return true;
}

ThreadPool::~ThreadPool() {
  store(&stopping_, true);
  add(&wakeups_, 1u);
  futex_wake_all(&wakeups_);
  for (int32_t i = 1; i < threads_; ++i) pthread_join(workers_[static_cast<size_t>(i - 1)].handle, nullptr);
}

bool ThreadPool::claim(int32_t* task) {
  uint64_t state = load(&state_);
  while (tasks_left(state)) {
    if (__atomic_compare_exchange_n(&state_, &state, state - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      *task = tasks_ - static_cast<int32_t>(tasks_left(state));
      return true;
    }
  }
  return false;
}

void ThreadPool::work(int32_t thread) {
  int32_t task;
  while (claim(&task)) {
    function_(context_, task, thread);
    add(&finished_, 1);
  }
}

void ThreadPool::parallel_for(int32_t tasks, TaskFn function, void* context) {
  if (threads_ == 1 || tasks <= 1) {
    for (int32_t task = 0; task < tasks; ++task) function(context, task, 0);
    return;
  }
  function_ = function;
  context_ = context;
  tasks_ = tasks;
  store(&finished_, 0);
  const uint64_t loop = (load(&state_) >> 32) + 1;
  store(&state_, loop << 32 | static_cast<uint32_t>(tasks));
  if (load(&sleepers_) > 0) {
    add(&wakeups_, 1u);
    futex_wake_all(&wakeups_);
  }
  work(0);
  for (int32_t spins = 0; load(&finished_) != tasks; ++spins) {
    // A claimed task is running; if its thread lost its core, this one must give way.
    if (crowded_ || spins > 1000) {
      sched_yield();
    } else {
      pause_briefly();
    }
  }
}

void ThreadPool::wait_for_work() {
  if (!crowded_) {
    const int64_t until = now() + kSpinNanoseconds;
    for (int32_t spins = 1; !load(&stopping_); ++spins) {
      if (tasks_left(load(&state_))) return;
      pause_briefly();
      if (spins % kSpinsPerClockRead == 0 && now() > until) break;
    }
  }
  add(&sleepers_, 1);
  // The order (announce the sleeper, then look for work) mirrors parallel_for's (announce work, then look for
  // sleepers): one of the two always sees the other.
  uint32_t seen = load(&wakeups_);
  while (!tasks_left(load(&state_)) && !load(&stopping_)) {
    futex_wait(&wakeups_, seen);
    seen = load(&wakeups_);
  }
  add(&sleepers_, -1);
}

void* ThreadPool::worker_main(void* argument) {
  const Worker& worker = *static_cast<Worker*>(argument);
  ThreadPool& pool = *worker.pool;
  const FloatMode float_mode;
  while (!load(&pool.stopping_)) {
    pool.work(worker.thread);
    pool.wait_for_work();
  }
  return nullptr;
}

}  // namespace oe
