// AVX2 and FMA, without VNNI: Haswell to Comet Lake, Zen 1 to 3.
#include <immintrin.h>

#include "kernels.h"
#include "simd/macros.h"

namespace oe {
namespace {
#include "transpose.h"
#include "vec_avx2.h"

#include "simd/kernels.inc"
}  // namespace

extern const Implementation kAvx2;
const Implementation kAvx2 = OE_SIMD_IMPLEMENTATION("avx2");

}  // namespace oe
