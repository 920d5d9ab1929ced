// SDOT of ARMv8.2's dotprod extension (Cortex-A55, Cortex-A76 as in the Raspberry Pi 5 and later, Neoverse N1): the
// linears of linear_stripes.inc and the templates of engine/simd for the rest.
#include <arm_neon.h>

#include "kernels/kernels.h"
#include "simd/macros.h"

namespace oe {
namespace {
#include "vec_neon.h"
#include "dot_by_element.h"

#define OE_OWN_LINEARS "arm_neon/linear_stripes.inc"
#include "simd/kernels.inc"
}  // namespace

extern const Implementation kNeonDot;
const Implementation kNeonDot =
    OE_SIMD_IMPLEMENTATION_WITH("neondot", Records::None, linear_scratch, linear_row_gather<1>, linear_row_gather<2>,
                                linear_row_gather<4>, linear_dense_4, linear_block_1x4);

}  // namespace oe
