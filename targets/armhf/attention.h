// Attention of the armhf target (attention.cpp), for its Implementation in neon.cpp.
#ifndef OBERT_EDGE_ARMHF_ATTENTION_H
#define OBERT_EDGE_ARMHF_ATTENTION_H

#include "kernels/kernels.h"

namespace oe {
namespace armhf {

void attention(const AttentionArgs& args, int32_t sequence, int32_t head, void* scratch);
size_t attention_scratch(const AttentionArgs& args, int32_t longest);

}  // namespace armhf
}  // namespace oe
#endif
