// AVX-512-VNNI with 512-bit vectors (Cascade Lake, Ice Lake, Sapphire Rapids, Zen 4 and later): the templates of
// engine/simd on vec_avx512.h.
#include <immintrin.h>

#include "kernels/kernels.h"
#include "simd/macros.h"

namespace oe {
namespace {
#include "transpose.h"
#include "vec_avx512.h"

#include "simd/kernels.inc"
}  // namespace

extern const Implementation kAvx512Vnni;
const Implementation kAvx512Vnni = OE_SIMD_IMPLEMENTATION("avx512vnni");

}  // namespace oe
