#include "kernels/implementations.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/cpu_features.h"
#include "obert_edge.h"
#include "base/status.h"

namespace oe {

// Weak: a library need not contain every row, as one built of the scalar kernels alone shows.
#define OE_IMPLEMENTATION(symbol, name, runs) extern const Implementation symbol __attribute__((weak));
#include "kernels/implementations.inc"
#undef OE_IMPLEMENTATION

namespace {

struct Row {
  const Implementation* implementation;
  const char* name;
  bool (*runs)(const CpuFeatures& cpu);
};

const Row kRows[] = {
#define OE_IMPLEMENTATION(symbol, name, runs) \
  {&symbol, name, [](const CpuFeatures& cpu) -> bool { return (void)cpu, runs; }},
#include "kernels/implementations.inc"
#undef OE_IMPLEMENTATION
};

bool usable(const Row& row) { return row.implementation && row.runs(cpu_features()); }

// "a,b,c", filled when the library is loaded.
struct Names {
  char text[256] = "";
  Names() {
    for (const Row& row : kRows) {
      if (!usable(row)) continue;
      if (text[0]) strcat(text, ",");
      strcat(text, row.name);
    }
  }
};

}  // namespace

const char* implementation_names() {
  static thread_local Names names;
  return names.text;
}

int32_t select_implementation(const char* name, const Implementation** selected) {
  if (!name || !*name) name = getenv("OBERT_EDGE_IMPLEMENTATION");
  for (const Row& row : kRows) {
    if (!usable(row)) continue;
    if (!name || !*name || strcmp(name, row.name) == 0) {
      *selected = row.implementation;
      return OE_OK;
    }
  }
  return fail(OE_UNSUPPORTED, "the implementation '%.64s' cannot run here; this CPU and library can run: %s", name,
              implementation_names());
}

}  // namespace oe
