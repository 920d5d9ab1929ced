// The scalar implementation. It runs on every CPU, and is the reference that every other one is tested against.
#include "scalar.h"

namespace oe {

extern const Implementation kScalar;
const Implementation kScalar = {
    "scalar",
    Records::None,
    0,
    {nullptr, generic::linear_row_gather_1, generic::linear_row_gather_2, generic::linear_row_gather_4,
     generic::linear_dense_4, generic::linear_block_1x4},
    generic::attention,
    generic::layer_norm,
    generic::quantize,
    generic::quantize_dynamic,
    generic::rotate,
    generic::multiply,
    generic::embed,
    generic::mean_pool,
    generic::select_first,
    generic::linear_scratch,
    generic::attention_scratch,
};

}  // namespace oe
