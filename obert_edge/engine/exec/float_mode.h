// IEEE arithmetic for the time of a run: other libraries of the process may have switched this thread to another
// rounding, or to flushing denormals, and the same input must give the same bits.
#ifndef OBERT_EDGE_FLOAT_MODE_H
#define OBERT_EDGE_FLOAT_MODE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace oe {

class FloatMode {
 public:
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;

#if defined(__x86_64__)
  FloatMode() : saved_(_mm_getcsr()) { _mm_setcsr(0x1F80); }  // round to nearest, no flushing, no traps
  ~FloatMode() { _mm_setcsr(saved_); }

 private:
  uint32_t saved_;
#elif defined(__aarch64__)
  FloatMode() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
  }
  ~FloatMode() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#elif defined(__arm__)
  FloatMode() {
    __asm__ volatile("vmrs %0, fpscr" : "=r"(saved_));
    __asm__ volatile("vmsr fpscr, %0" : : "r"(0));
  }
  ~FloatMode() { __asm__ volatile("vmsr fpscr, %0" : : "r"(saved_)); }

 private:
  uint32_t saved_;
#else
  FloatMode() {}
#endif
};

}  // namespace oe
#endif
