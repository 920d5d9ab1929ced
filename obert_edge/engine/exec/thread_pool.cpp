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
constexpr uint64_t kPatience = 20000;          // so long the caller waits before it looks what a worker does, and again
constexpr int32_t kSpinsPerClockRead = 32;     // reading the clock costs more than a spin
constexpr uint64_t kHesitation = 8;            // a thread hesitates for this part of the time the loop has run,
constexpr uint64_t kMostHesitation = 20000;    // and for no longer than this, in nanoseconds

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

template <class T>
bool change(T* value, T expected, T desired) {
  return __atomic_compare_exchange_n(value, &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

// The forks between the process that loaded this library and the one that runs now.
uint32_t forks = 0;
pthread_once_t counting = PTHREAD_ONCE_INIT;

// The nanoseconds a clock has counted; 0 where it cannot be read.
uint64_t read_clock(clockid_t clock) {
  timespec t = {};
  clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

// Sets `here` to the CPU this thread runs on. False where that is none of `usual`.
bool only_this_cpu(const cpu_set_t& usual, cpu_set_t* here) {
  const int32_t cpu = sched_getcpu();
  CPU_ZERO(here);
  if (cpu < 0 || cpu >= CPU_SETSIZE) return false;
  CPU_SET(static_cast<size_t>(cpu), here);
  return CPU_ISSET(static_cast<size_t>(cpu), &usual);
}

// How long a thread leaves the tasks of the other end to their own threads, in nanoseconds.
uint64_t hesitation(uint64_t elapsed) {
  const uint64_t part = elapsed / kHesitation;
  return part < kMostHesitation ? part : kMostHesitation;
}

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
    worker.holds = false;  // a fork has copied what the other process's did
    worker.place = kUsual;
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

// `helps`: whether the thread takes tasks of the other end at once.
bool ThreadPool::claim(int32_t thread, bool* helps, int32_t* task) {
  const bool from_the_end = thread % 2 != 0;
  uint64_t due = 0;
  Unclaimed now = unclaimed();
  while (now.any()) {
    const int32_t first = now.first(), last = now.last(), middle = load(&middle_);
    if (!*helps && (from_the_end ? last <= middle : first >= middle)) {
      const uint64_t time = oe::now();
      if (due == 0) due = time + hesitation(time - load(&begun_));
      *helps = time >= due;
      pause_briefly();
      now = unclaimed();
      continue;
    }
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
  bool helps = crowded_ || !load(&hesitates_);
  for (; claim(thread, &helps, &task); ++done) {
    if (thread > 0 && done == 0) store(&workers_[static_cast<size_t>(thread - 1)].holds, true);
    run_task(task, thread);
  }
  if (done == 0) return;
  if (thread > 0) store(&workers_[static_cast<size_t>(thread - 1)].holds, false);
  add(&finished_, done);
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
  store(&caller_cpu_, sched_getcpu());
  if (hesitates_) {
    store(&middle_, static_cast<int32_t>(int64_t{tasks} * ((threads_ + 1) / 2) / threads_));
    store(&begun_, now());
  }
  store(&state_, Unclaimed(unclaimed().number() + 1, 0, tasks).word);
  if (load(&sleepers_) > 0) {
    add(&wakeups_, 1u);
    futex_wake_all(&wakeups_);
  }
  work(0);
  wait_for_claimed(tasks);
}

// The tasks that are left are running, or their threads have lost their CPUs.
void ThreadPool::wait_for_claimed(int32_t tasks) {
  if (crowded_) {
    while (load(&finished_) != tasks) sched_yield();
    return;
  }
  uint64_t due = 0;
  bool called = false;
  for (int32_t spins = 1; load(&finished_) != tasks; ++spins) {
    if (called) {
      sched_yield();
    } else {
      pause_briefly();
    }
    if (!called && spins % kSpinsPerClockRead != 0) continue;
    const uint64_t time = now();
    if (due == 0) due = time + kPatience;
    if (time < due) continue;
    called = call_late_workers();
    due = time + kPatience;
  }
}

// Calls the workers whose clocks stand where they stood when the caller looked last. Whether there are any called ones
// now, which the caller has to give way to.
bool ThreadPool::call_late_workers() {
  bool called = false;
  for (int32_t i = 1; i < threads_; ++i) {
    Worker& worker = workers_[static_cast<size_t>(i - 1)];
    if (!load(&worker.holds)) continue;
    const uint64_t clock = read_clock(worker.clock);
    if (clock != 0 && clock == worker.seen) call(worker);
    worker.seen = clock;
    called = called || load(&worker.place) == kCalled;
  }
  return called;
}

void ThreadPool::call(Worker& worker) {
  if (!change(&worker.place, kUsual, kMoving)) return;
  cpu_set_t here;
  const bool moved = sched_getaffinity(worker.id, sizeof worker.usual, &worker.usual) == 0 &&
                     only_this_cpu(worker.usual, &here) && sched_setaffinity(worker.id, sizeof here, &here) == 0;
  // Said only now: a worker that leaves must not be bound afterwards.
  store(&worker.place, moved ? kCalled : kUsual);
  // One that was done before may be asleep already. This order (say it, then look) mirrors the worker's (done, then look).
  if (load(&worker.holds) || !change(&worker.place, kCalled, kMoving)) return;
  sched_setaffinity(worker.id, sizeof worker.usual, &worker.usual);
  store(&worker.place, kUsual);
}

// Moves a worker, which calls this itself, off the CPU that it is on: the caller has more to do there.
void ThreadPool::leave(Worker& worker) {
  cpu_set_t usual, here;
  if (change(&worker.place, kCalled, kMoving)) {
    usual = worker.usual;
  } else if (!change(&worker.place, kUsual, kMoving)) {
    return;
  } else if (sched_getaffinity(0, sizeof usual, &usual) != 0) {
    CPU_ZERO(&usual);
  }
  if (only_this_cpu(usual, &here)) {
    cpu_set_t others;
    CPU_XOR(&others, &usual, &here);
    sched_setaffinity(0, sizeof others, &others);  // returns on another CPU; does nothing where there is none
  }
  sched_setaffinity(0, sizeof usual, &usual);
  store(&worker.place, kUsual);
}

void ThreadPool::wait_for_work(Worker& worker) {
  if (!crowded_) {
    const uint64_t until = now() + kSpinNanoseconds;
    for (int32_t spins = 1; !load(&stopping_); ++spins) {
      if (load(&worker.place) == kCalled || sched_getcpu() == load(&caller_cpu_)) leave(worker);
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
    if (load(&worker.place) == kCalled) leave(worker);
  }
  add(&sleepers_, -1);
}

void* ThreadPool::worker_main(void* argument) {
  Worker& worker = *static_cast<Worker*>(argument);
  ThreadPool& pool = *worker.pool;
  worker.id = static_cast<pid_t>(syscall(SYS_gettid));
  pthread_getcpuclockid(pthread_self(), &worker.clock);
  const FloatMode float_mode;
  while (!load(&pool.stopping_)) {
    pool.work(worker.thread);
    pool.wait_for_work(worker);
  }
  return nullptr;
}

}  // namespace oe
