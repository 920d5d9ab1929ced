// What this CPU and operating system can run.
#ifndef OBERT_EDGE_CPU_FEATURES_H
#define OBERT_EDGE_CPU_FEATURES_H

namespace oe {

struct CpuFeatures {
  bool crc32 = false;  // instructions for CRC-32 (crc32.h): PCLMULQDQ, or those of ARMv8

  bool avx2 = false;        // with FMA; the OS saves ymm registers
  bool avxvnni = false;     // VEX-encoded VPDPBUSD, with avx2
  bool avx512 = false;      // F, BW, DQ, VL, with avx2; the OS saves zmm registers
  bool avx512vnni = false;  // with avx512
  bool avx512vbmi = false;  // with avx512

  bool neon = false;     // of 32-bit ARM; 64-bit always has it
  bool dotprod = false;  // ARMv8.2 SDOT and UDOT
  bool i8mm = false;     // ARMv8.6 USDOT and SMMLA, with dotprod
};

// Asked of the CPU once, when the library is loaded.
const CpuFeatures& cpu_features();

}  // namespace oe
#endif
