// NEON alone, which every ARMv8 CPU has; made for Cortex-A53 and A72, which have nothing better. Linears are those of
// linear_stripes.inc, the rest are the templates of engine/simd.
#include <arm_neon.h>

#include "kernels/kernels.h"
#include "simd/macros.h"

namespace oe {
namespace {
#include "vec_neon.h"
#include "dot_neon.h"

#define OE_OWN_LINEARS "arm_neon/linear_stripes.inc"
#include "simd/kernels.inc"
}  // namespace

extern const Implementation kNeon;
const Implementation kNeon =
    OE_SIMD_IMPLEMENTATION_WITH("neon", Records::None, linear_scratch, linear_row_gather<1>, linear_row_gather<2>,
                                linear_row_gather<4>, linear_dense_4, linear_block_1x4);

}  // namespace oe
