// From padded arrays to packed tokens and back: what oe_pack, oe_unpack and oe_count_positions of obert_edge.h do. They
// are the only place where these rules are written; Python and LiteRT's delegate call them.
#ifndef OBERT_EDGE_PADDED_H
#define OBERT_EDGE_PADDED_H

#include <stdint.h>

#include "obert_edge.h"

namespace oe {

int64_t pack_room(int64_t rows, int64_t columns);
int32_t pack(const oe_input_rules& rules, const oe_padded& padded, int32_t* room, oe_packed* packed);
void unpack(const oe_packed& packed, int32_t channels, const float* rows, float* padded);
void count_positions(const oe_input_rules& rules, int32_t sequences, const int32_t* starts, int32_t* positions);

}  // namespace oe
#endif
