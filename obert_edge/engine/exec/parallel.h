// Loops over a thread pool that take a lambda. For baseline code only: the templates are inline functions.
#ifndef OBERT_EDGE_PARALLEL_H
#define OBERT_EDGE_PARALLEL_H

#include <stdint.h>

#include "exec/thread_pool.h"
#include "kernels/kernels.h"

namespace oe {

// Calls body(task, thread) for every task in [0, tasks), on all threads.
template <class Body>
void parallel(ThreadPool& pool, int32_t tasks, const Body& body) {
  pool.parallel_for(
      tasks, [](void* context, int32_t task, int32_t thread) { (*static_cast<const Body*>(context))(task, thread); },
      const_cast<Body*>(&body));
}

// Calls body(begin, end) for ranges of at most one panel that cover `tokens` tokens, padding lanes included. A panel
// is split for more tasks, but not below `smallest` tokens: ops that read and write a few cheap rows of a panel lose
// more to cache lines shared by two threads than they gain (22 us on two threads against 9 on one).
template <class Body>
void parallel_tokens(ThreadPool& pool, int32_t tokens, int32_t smallest, const Body& body) {
  const int32_t padded = (tokens + kStep - 1) / kStep * kStep;
  int32_t block = kPanel;
  while (block > smallest && (padded + block - 1) / block < pool.threads()) block /= 2;
  parallel(pool, (padded + block - 1) / block, [&](int32_t task, int32_t) {
    const int32_t begin = task * block;
    body(begin, begin + block < padded ? begin + block : padded);
  });
}

// The tokens of one panel, padding lanes included: what kernels over tokens are given.
struct TokenRange {
  int32_t begin, end;
};
inline TokenRange tokens_of_panel(int32_t tokens, int32_t panel) {
  return {panel * kPanel, panel * kPanel + panel_width(tokens, panel)};
}

}  // namespace oe
#endif
