#include "kernels/cpu_features.h"

#include <stdint.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) || defined(__arm__)
#include <sys/auxv.h>
#endif

namespace oe {
namespace {

#if defined(__x86_64__)

// Register state the operating system saves on a context switch (XCR0). Executed only when OSXSAVE is set.
uint64_t saved_state() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

bool bit(uint32_t word, int index) { return word >> index & 1u; }

CpuFeatures detect() {
  constexpr uint64_t kYmmState = 0x6;   // SSE, AVX
  constexpr uint64_t kZmmState = 0xE6;  // and opmask, upper halves, zmm16-31
  CpuFeatures found;
  uint32_t eax, ebx, ecx, edx;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return found;
  found.crc32 = bit(ecx, 1);
  const bool fma = bit(ecx, 12), osxsave = bit(ecx, 27), avx = bit(ecx, 28);
  if (!osxsave || !avx) return found;
  const uint64_t state = saved_state();
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return found;
  const uint32_t leaves = eax, features_b = ebx, features_c = ecx;

  found.avx2 = fma && bit(features_b, 5) && (state & kYmmState) == kYmmState;
  const bool f = bit(features_b, 16), dq = bit(features_b, 17), bw = bit(features_b, 30), vl = bit(features_b, 31);
  found.avx512 = found.avx2 && f && dq && bw && vl && (state & kZmmState) == kZmmState;
  found.avx512vnni = found.avx512 && bit(features_c, 11);
  found.avx512vbmi = found.avx512 && bit(features_c, 1);
  if (leaves >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) found.avxvnni = found.avx2 && bit(eax, 4);
  return found;
}

#elif defined(__aarch64__)

// The kernel's word for it: it lists what every core of a big.LITTLE chip has.
CpuFeatures detect() {
  constexpr unsigned long kDotProduct = 1ul << 20;  // HWCAP_ASIMDDP
  constexpr unsigned long kInt8Matrix = 1ul << 13;  // HWCAP2_I8MM
  constexpr unsigned long kCrc32 = 1ul << 7;        // HWCAP_CRC32
  CpuFeatures found;
  found.crc32 = getauxval(AT_HWCAP) & kCrc32;
  found.dotprod = getauxval(AT_HWCAP) & kDotProduct;
  found.i8mm = found.dotprod && (getauxval(AT_HWCAP2) & kInt8Matrix);
  return found;
}

#elif defined(__arm__)

CpuFeatures detect() {
  constexpr unsigned long kNeon = 1ul << 12;  // HWCAP_NEON
  CpuFeatures found;
  found.neon = getauxval(AT_HWCAP) & kNeon;
  return found;
}

#else

CpuFeatures detect() { return CpuFeatures(); }

#endif

// A global, not a function-local static: those need guard functions of libc++, which is not linked.
const CpuFeatures features = detect();

}  // namespace

const CpuFeatures& cpu_features() { return features; }

}  // namespace oe
