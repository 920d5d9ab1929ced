// The clock of the profile and of the thread pool: no system call (vDSO).
#ifndef OBERT_EDGE_CLOCK_H
#define OBERT_EDGE_CLOCK_H

#include <stdint.h>
#include <time.h>

namespace oe {

// Nanoseconds since some moment.
static inline uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

}  // namespace oe
#endif
