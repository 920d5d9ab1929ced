#include "exec/thread_pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "exec/float_mode.h"

namespace oe {
namespace {

constexpr uint64_t kSpinNanoseconds = 200000;  // a worker spins so long before it sleeps
constexpr int32_t kSpinsPerClockRead = 32;     // reading the clock costs more than a spin
constexpr int32_t kSpinsBeforeYield = 4000;    // some 200 us: longer than a task of a balanced loop is late

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

void futex_wait(uint32_t* word, uint32_t expected) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}
void futex_wake_all(uint32_t* word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0); }

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

// The forks between the process that loaded this library and the one that runs now.
uint32_t forks = 0;
pthread_once_t counting = PTHREAD_ONCE_INIT;

int32_t cores() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
  return static_cast<int32_t>(sysconf(_SC_NPROCESSORS_ONLN));
}

}  // namespace

bool ThreadPool::start(int32_t threads) {
  pthread_once(&counting, [] { pthread_atfork(nullptr, nullptr, [] { add(&forks, 1u); }); });
  if (!workers_.allocate(static_cast<size_t>(threads - 1))) return false;
  return start_workers(threads);
}

bool ThreadPool::forked() const { return forks_ != load(&forks); }

void ThreadPool::restart() {
  store(&state_, Unclaimed(unclaimed().number() + 1, 0, 0).word);
  store(&sleepers_, 0);
  start_workers(threads_);  // with fewer threads than before a run is slower, not wrong
}

bool ThreadPool::start_workers(int32_t threads) {
  threads_ = 1;
  forks_ = load(&forks);
  crowded_ = threads > cores();
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
  if (forked()) return;  // the workers are the other process's
  store(&stopping_, true);
  add(&wakeups_, 1u);
  futex_wake_all(&wakeups_);
  for (int32_t i = 1; i < threads_; ++i) pthread_join(workers_[static_cast<size_t>(i - 1)].handle, nullptr);
}

ThreadPool::Unclaimed ThreadPool::unclaimed() const { return Unclaimed(load(&state_)); }

bool ThreadPool::claim(int32_t thread, int32_t* task) {
  const bool from_the_end = thread % 2 != 0;
  Unclaimed now = unclaimed();
  while (now.any()) {
    const int32_t first = now.first(), last = now.last();
    const Unclaimed left =
        from_the_end ? Unclaimed(now.number(), first, last - 1) : Unclaimed(now.number(), first + 1, last);
    if (__atomic_compare_exchange_n(&state_, &now.word, left.word, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      *task = first_task_ + (from_the_end ? last - 1 : first);
      return true;
    }
  }
  return false;
}

void ThreadPool::run_task(int32_t task, int32_t thread) {
  if (interrupt_) {
    if (thread == 0) interrupt_->ask();
    if (interrupt_->stopped()) return;
  }
  function_(context_, task, thread);
}

void ThreadPool::work(int32_t thread) {
  int32_t task, done = 0;
  for (; claim(thread, &task); ++done) run_task(task, thread);
  if (done > 0) add(&finished_, done);
}

void ThreadPool::parallel_for(int32_t tasks, TaskFn function, void* context) {
  function_ = function;
  context_ = context;
  if (threads_ == 1 || tasks <= 1) {
    for (int32_t task = 0; task < tasks; ++task) run_task(task, 0);
    return;
  }
  for (first_task_ = 0; first_task_ < tasks;) {
    const int32_t left = tasks - first_task_, now = left < kMostTasks ? left : kMostTasks;
    run_loop(now);
    first_task_ += now;
  }
}

void ThreadPool::run_loop(int32_t tasks) {
  store(&finished_, 0);
  store(&state_, Unclaimed(unclaimed().number() + 1, 0, tasks).word);
  if (load(&sleepers_) > 0) {
    add(&wakeups_, 1u);
    futex_wake_all(&wakeups_);
  }
  work(0);
  for (int32_t spins = 0; load(&finished_) != tasks; ++spins) {
    // A claimed task is running; if its thread lost its core, this one must give way.
    if (crowded_ || spins > kSpinsBeforeYield) {
      sched_yield();
    } else {
      pause_briefly();
    }
  }
}

void ThreadPool::wait_for_work() {
  if (!crowded_) {
    const uint64_t until = now() + kSpinNanoseconds;
    for (int32_t spins = 1; !load(&stopping_); ++spins) {
      if (unclaimed().any()) return;
      pause_briefly();
      if (spins % kSpinsPerClockRead == 0 && now() > until) break;
    }
  }
  add(&sleepers_, 1);
  // The order (announce the sleeper, then look for work) mirrors parallel_for's (announce work, then look for
  // sleepers): one of the two always sees the other.
  uint32_t seen = load(&wakeups_);
  while (!unclaimed().any() && !load(&stopping_)) {
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
