// AVX2 and FMA, without VNNI: Haswell to Comet Lake, Zen 1 to 3.
#include <immintrin.h>

#include "kernels.h"
#include "simd/macros.h"

namespace oe {
namespace {
#include "transpose.h"
#include "vec_avx2.h"

#define OE_OWN_ATTENTION "x86_avx/attention_avx2.inc"
#include "simd/kernels.inc"
#include "linear_avx2.inc"
}  // namespace

extern const Implementation kAvx2;
const Implementation kAvx2 = OE_SIMD_IMPLEMENTATION_WITH(
    "avx2", false, linear_scratch_avx2, (linear_avx2<1, Source::Columns>), (linear_avx2<2, Source::Columns>),
    (linear_avx2<4, Source::Columns>), (linear_avx2<4, Source::Quads>), (linear_avx2<1, Source::Quads>));

}  // namespace oe
