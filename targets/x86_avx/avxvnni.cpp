// AVX-VNNI, 256 bits wide (Alder Lake and later, Zen 5). The source is that of avx512vnni_ymm.cpp but for the encoding
// of the dot product (VEX here, EVEX there). Machines without it test it all the same: tests/kernels/trap.py.
#include <immintrin.h>

#include "kernels/kernels.h"
#include "simd/macros.h"

namespace oe {
namespace {
#define OE_DPBUSD(acc, u8, s8) _mm256_dpbusd_avx_epi32(acc, u8, s8)
#include "transpose.h"
#include "vec_avx2.h"

#include "simd/kernels.inc"
}  // namespace

extern const Implementation kAvxVnni;
const Implementation kAvxVnni = OE_SIMD_IMPLEMENTATION("avxvnni");

}  // namespace oe
