// The scalar kernels: docs/reference/numerics.md in C++, one file per section. scalar.cpp lists them as an
// Implementation.
#ifndef OBERT_EDGE_GENERIC_SCALAR_H
#define OBERT_EDGE_GENERIC_SCALAR_H

#include "kernels/kernels.h"

namespace oe {
namespace generic {

void linear_row_gather_1(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                         const LinearScratch& scratch);
void linear_row_gather_2(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                         const LinearScratch& scratch);
void linear_row_gather_4(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                         const LinearScratch& scratch);
void linear_dense_4(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                    const LinearScratch& scratch);
void linear_block_1x4(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                      const LinearScratch& scratch);
size_t linear_scratch(const LinearArgs& args);

void attention(const AttentionArgs& args, int32_t sequence, int32_t head, void* scratch);
size_t attention_scratch(const AttentionArgs& args, int32_t longest);

void layer_norm(const LayerNormArgs& args, int32_t begin, int32_t end);
void quantize(const QuantizeArgs& args, int32_t begin, int32_t end);
void quantize_dynamic(const QuantizeArgs& args, int32_t begin, int32_t end);
void rotate(const RotateArgs& args, int32_t begin, int32_t end);
void multiply(const MultiplyArgs& args, int32_t begin, int32_t end);
void embed(const EmbedArgs& args, int32_t begin, int32_t end);
void mean_pool(const PoolArgs& args, int32_t sequence);
void select_first(const PoolArgs& args, int32_t sequence);

}  // namespace generic
}  // namespace oe
#endif
