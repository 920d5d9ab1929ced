// AVX2 and FMA without VNNI (Haswell to Comet Lake, Zen 1 to 3). There is no instruction that multiplies u8 by s8 and
// adds in int32, so the linears and attention have kernels of their own; the rest are the templates of engine/simd.
#include <immintrin.h>

#include "kernels/kernels.h"
#include "simd/macros.h"

namespace oe {
namespace {
#include "transpose.h"
#include "vec_avx2.h"

#define OE_OWN_ATTENTION "x86_avx/attention_avx2.inc"
#include "simd/kernels.inc"
#include "linear_avx2.inc"
#include "row_gather_avx2.inc"
}  // namespace

extern const Implementation kAvx2;
const Implementation kAvx2 = OE_SIMD_IMPLEMENTATION_WITH(
    "avx2", Records::PairedRowGather, linear_scratch_avx2, linear_gather_avx2<1>, linear_gather_avx2<2>,
    linear_gather_avx2<4>, linear_quads_avx2<4>, linear_quads_avx2<1>);

}  // namespace oe
