// oe_measure_peak (obert_edge.h): the most work per nanosecond that this CPU does with the instructions of one
// implementation. The loops are those of peaks.inc, included once per vector width. docs/reference/roofline.md says
// what the peaks are for.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/implementations.h"
#include "obert_edge.h"

namespace {

namespace zmm {
#define OE_TARGET "avx512f,avx512bw,avx512vnni"
#define OE_BYTES 64
#define OE_DOT "vpdpbusd %3, %2, %0"
#define OE_DOT_WORK 64
#define OE_MOVE "vmovdqu64"
#define OE_SPREAD "vpbroadcastd"
#define OE_SUMS 16
#include "peaks.inc"
#undef OE_TARGET
#undef OE_DOT
}  // namespace zmm

#undef OE_BYTES
#undef OE_DOT_WORK
#undef OE_MOVE
#define OE_BYTES 32
#define OE_MOVE "vmovdqu"

namespace ymm {
#define OE_TARGET "avx512f,avx512bw,avx512vl,avx512vnni"
#define OE_DOT "vpdpbusd %3, %2, %0"
#define OE_DOT_WORK 32
#undef OE_MOVE
#define OE_MOVE "vmovdqu64"
#include "peaks.inc"
#undef OE_MOVE
#define OE_MOVE "vmovdqu"
#undef OE_TARGET
#undef OE_DOT
}  // namespace ymm

// The instruction sets below have 16 vector registers instead of 32, so fewer sums fit beside the rest.
#undef OE_SUMS
#define OE_SUMS 10

namespace vex {
#define OE_TARGET "avx2,fma,avxvnni"
#define OE_DOT "%{vex%} vpdpbusd %3, %2, %0"
#include "peaks.inc"
#undef OE_TARGET
#undef OE_DOT
#undef OE_DOT_WORK
}  // namespace vex

// Without VNNI a multiply-add of bytes is a product of pairs and at the very least an addition in 16 bits. Kernels have
// to widen to 32 bits now and then, so they stay below this peak.
namespace avx2 {
#define OE_TARGET "avx2,fma"
#define OE_DOT "vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
#define OE_DOT_WORK 32
#include "peaks.inc"
#undef OE_TARGET
#undef OE_DOT
#undef OE_DOT_WORK
}  // namespace avx2

constexpr size_t kSmall = 16 * 1024;  // bytes that surely lie in L1: half of 32 KB

// Memory of whole pages that has been written to, so that reading it does not fault.
struct Buffer {
  explicit Buffer(size_t bytes) : data(static_cast<char*>(aligned_alloc(4096, (bytes + 4095) / 4096 * 4096))) {
    if (data) memset(data, 1, bytes);
  }
  ~Buffer() { free(data); }
  char* data;
};

// Nanoseconds of the monotonic clock.
double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

// Work per nanosecond of loop(rounds), which returns the work it did. The number of rounds is doubled until they take
// half a millisecond, so that the clock's own time does not count; then the best of 16 repeats is taken.
template <class Loop>
double best_rate(const Loop& loop) {
  constexpr double kLong = 5e5;  // nanoseconds
  constexpr int kRepeats = 16;
  int64_t rounds = 1;
  double best = 0;
  for (int repeat = 0; repeat < kRepeats;) {
    const double before = now();
    const double work = loop(rounds);
    const double taken = now() - before;
    if (taken < kLong && rounds < (int64_t{1} << 40)) {
      rounds *= 2;
      continue;
    }
    if (work / taken > best) best = work / taken;
    ++repeat;
  }
  return best;
}

#define OE_MEASURE(space)                                                                                      \
  double measure_##space(int32_t what, int64_t parameter) {                                                    \
    const bool large = what == OE_PEAK_READ || what == OE_PEAK_WRITE;                                          \
    const size_t bytes = large ? static_cast<size_t>(parameter) / 512 * 512 : kSmall;                          \
    const Buffer buffer(bytes);                                                                                \
    if (!buffer.data || bytes == 0) return 0;                                                                  \
    char* data = buffer.data;                                                                                  \
    switch (what) {                                                                                            \
      case OE_PEAK_MULTIPLY_ADD:                                                                               \
        return best_rate([](int64_t n) { return space::multiply_add(n); });                                    \
      case OE_PEAK_SHUFFLE:                                                                                    \
        return best_rate([](int64_t n) { return space::shuffle(n); });                                         \
      case OE_PEAK_FLOAT:                                                                                      \
        return best_rate([](int64_t n) { return space::float_multiply_add(n); });                              \
      case OE_PEAK_READ:                                                                                       \
        return best_rate([=](int64_t n) { return space::read(n, data, bytes); });                              \
      case OE_PEAK_WRITE:                                                                                      \
        return best_rate([=](int64_t n) { return space::write(n, data, bytes); });                             \
      case OE_PEAK_ROW_GATHER:                                                                                 \
        if (parameter == 1) return best_rate([=](int64_t n) { return space::row_gather<1>(n, data, bytes); }); \
        if (parameter == 2) return best_rate([=](int64_t n) { return space::row_gather<2>(n, data, bytes); }); \
        if (parameter == 4) return best_rate([=](int64_t n) { return space::row_gather<4>(n, data, bytes); }); \
    }                                                                                                          \
    return 0;                                                                                                  \
  }
OE_MEASURE(zmm)
OE_MEASURE(ymm)
OE_MEASURE(vex)
OE_MEASURE(avx2)

}  // namespace

OE_API double oe_measure_peak(const char* implementation, int32_t what, int64_t parameter) {
  const oe::Implementation* selected = nullptr;
  if (parameter < 0 || oe::select_implementation(implementation, &selected) != OE_OK) return 0;
  if (strcmp(selected->name, "avx512vnni") == 0) return measure_zmm(what, parameter);
  if (strcmp(selected->name, "avx512vnni_ymm") == 0) return measure_ymm(what, parameter);
  if (strcmp(selected->name, "avxvnni") == 0) return measure_vex(what, parameter);
  if (strcmp(selected->name, "avx2") == 0) return measure_avx2(what, parameter);
  return 0;
}
