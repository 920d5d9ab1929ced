// USMMLA and USDOT of ARMv8.6's i8mm extension (Cortex-A510, Cortex-A710 and later, Neoverse V1 and N2): the linears of
// linear_stripes.inc and the templates of engine/simd for the rest.
#include <arm_neon.h>

#include "kernels/kernels.h"
#include "simd/macros.h"

namespace oe {
namespace {
#define OE_USDOT
#include "vec_neon.h"
#include "dot_by_element.h"
#include "dot_by_matrix.h"

#define OE_OWN_LINEARS "arm_neon/linear_stripes.inc"
#include "simd/kernels.inc"
}  // namespace

extern const Implementation kNeonI8mm;
const Implementation kNeonI8mm =
    OE_SIMD_IMPLEMENTATION_WITH("i8mm", Records::None, linear_scratch, linear_row_gather<1>, linear_row_gather<2>,
                                linear_row_gather<4>, linear_dense_4, linear_block_1x4);

}  // namespace oe
