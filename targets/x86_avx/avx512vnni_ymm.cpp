// AVX-512-VNNI with 256-bit vectors, for CPUs that lower their clock for 512-bit ones. It also tests the code that
// avxvnni.cpp shares with it, on machines without AVX-VNNI.
#include <immintrin.h>

#include "kernels/kernels.h"
#include "simd/macros.h"

namespace oe {
namespace {
#define OE_DPBUSD(acc, u8, s8) _mm256_dpbusd_epi32(acc, u8, s8)
#include "transpose.h"
#include "vec_avx2.h"

#include "simd/kernels.inc"
}  // namespace

extern const Implementation kAvx512VnniYmm;
const Implementation kAvx512VnniYmm = OE_SIMD_IMPLEMENTATION("avx512vnni_ymm");

}  // namespace oe
