// The contract between the executor and the kernels of an implementation.
//
// Activations live in token panels [N/T][K][T]: N packed tokens are cut into panels of T = 64; the last
// panel is 16, 32, 48 or 64 wide (N rounded up to 16; the extra lanes hold finite rubbish nobody reads).
//
//        token  0  1  2 ... T-1
//   channel 0 [ .  .  .      . ]      one row = T consecutive elements, so a vector register
//   channel 1 [ .  .  .      . ]      holds one channel of 16 (or 64) tokens
//       ...
//
// Element (c, t) of a buffer with C channels is at base + 64*(t/64)*C + c*width(t/64) + t%64.
// Every kernel computes exactly what docs/numerics.md says; the scalar ones are the reference.
#ifndef OBERT_EDGE_KERNELS_H
#define OBERT_EDGE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "program/enums.h"

namespace oe {

// Inline functions of this header are `static`: each object file is compiled for its own instruction set,
// and one merged copy could hold instructions the baseline code must not run.

// Width of panel `panel` when `tokens` tokens (or sequences) are packed.
static inline int32_t panel_width(int32_t tokens, int32_t panel) {
  const int32_t padded = (tokens + kStep - 1) / kStep * kStep;
  const int32_t left = padded - panel * kPanel;
  return left < kPanel ? left : kPanel;
}
static inline int32_t panel_count(int32_t tokens) { return (tokens + kPanel - 1) / kPanel; }

// Columns and weights of a sparse linear as one stream of records, each four columns (U16, shifted left by
// column_shift(k)), then their weights, [rows][4]. After the last are kRecordsBeyond records of zeros, so that a kernel may
// load ahead. Row-gather: a record is a quad, with the weights of its R rows. 1x4: a record is one block of each of four
// consecutive groups (the column: the first of the block), with 4 x 4 weights; where a row has no more blocks than the
// others, it has zeros. Paired, the columns of a row-gather group are in another order, in which VPMADDUBSW does not
// saturate (pairing.h).
enum class Records : uint8_t { None, All, PairedRowGather };  // the sparse linears that read them
constexpr size_t kColumnsOfRecord = 8;
constexpr uint64_t kRecordsBeyond = 2;
// A column times 8 bytes is the distance of rows of 8 tokens, which addresses can multiply by 2, 4 or 8.
static inline int column_shift(int32_t k) { return k <= 8192 ? 3 : 0; }

struct LinearArgs {
  const uint8_t* input;         // U8 panels [k]
  const float* params;          // F32 panels [2]: per-token scale, zero point; nullptr: static input
  const float* residual;        // F32 panels [n], or nullptr; may alias output
  void* output;                 // panels [n] of out_type
  DType out_type;
  Activation activation;
  int32_t tokens;               // packed tokens (or sequences)
  int32_t k, n, groups;
  const uint32_t* rows;         // [groups * R]
  const uint32_t* offsets;      // [groups + 1]: first quad (row-gather) or block (1x4) of each group;
                                // Dense4: do not read it, group g owns quads [g * q, (g + 1) * q), q = ceil(k / 4)
  const uint16_t* columns;      // row-gather: [4 * quads] input channels, all < k (padding: weight 0, any channel);
                                // 1x4: [blocks] the FIRST input channel of each block, channel + 3 < k;
                                // Dense4: nullptr, quad q of a group is channels 4q .. 4q+3; weights of channels
                                // >= k are zero and those channels must not be loaded
  const int8_t* weights;        // [quads][R][4], or [blocks][4] (R = 1)
  const uint8_t* records;       // where Implementation::records says so, in place of columns and weights; else nullptr
  const uint32_t* record_offsets;  // 1x4 with records: [ceil(groups / 4) + 1], the first record of each four groups;
                                   // paired: [groups][2], PairedQuads
  const float* scale;           // [n]; every output channel is in `rows` exactly once; arithmetic on sums wraps
  const float* bias;            // [n]
  const int32_t* correction;    // [n]
  int32_t zero_point, lo, hi;   // of an 8-bit output
  float inv_scale;
  bool rounds_to_int32;         // every result of a static input before it is clamped, whatever the sums
  bool rows_are_neighbors;     // the rows of each group (1x4: of each four) follow each other, and none is padding
};
// Computes the rows of groups [group_begin, group_end) for one panel; 1x4 with records: both multiples of 4, or group_end
// is args.groups. `scratch` is this thread's own,
// 64-byte aligned, at least Implementation::linear_scratch(args) bytes.
using LinearFn = void (*)(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                          void* scratch);

struct AttentionArgs {
  const uint8_t* query;         // U8 panels [heads * head_dim]
  const int8_t* key;            // S8 panels
  const int8_t* value;          // S8 panels
  void* output;                 // U8 or F32 panels
  DType out_type;
  int32_t tokens;               // packed tokens
  const int32_t* starts;        // [sequences + 1]
  int32_t heads, head_dim, query_zero_point, zero_point;
  float score_scale, context_scale;
};
// One head of one sequence. Writes only the lanes of its own tokens. `scratch` as above,
// Implementation::attention_scratch(head_dim, longest sequence of the batch) bytes.
using AttentionFn = void (*)(const AttentionArgs& args, int32_t sequence, int32_t head, void* scratch);

// Kernels over tokens compute tokens [begin, end): begin is a multiple of 16, the range lies inside one
// panel, and end is a multiple of 16 (rubbish lanes included).
struct LayerNormArgs {
  const float* input;
  float* output;                // or nullptr; may alias input
  uint8_t* quantized;           // or nullptr
  const float* gamma;
  const float* beta;
  int32_t tokens, channels, zero_point;
  float epsilon, inv_scale;
};
using LayerNormFn = void (*)(const LayerNormArgs& args, int32_t begin, int32_t end);

struct QuantizeArgs {
  const float* input;
  uint8_t* output;
  float* params;                // F32 panels [2] when dynamic, else nullptr
  int32_t tokens, channels, zero_point;
  float inv_scale;
};
using QuantizeFn = void (*)(const QuantizeArgs& args, int32_t begin, int32_t end);

// INT4 rows: 32 channels to a group of 16 bytes, channel i in the low half of byte i, channel 16 + i in the high one.
constexpr int32_t kInt4GroupBytes = kInt4Group / 2;
static inline int32_t groups_of(int32_t channels) { return (channels + kInt4Group - 1) / kInt4Group; }

struct EmbedArgs {
  const int32_t* ids;           // [tokens] real tokens only
  const int32_t* positions;
  const int32_t* token_types;   // or nullptr: all zero
  const int8_t* word;
  const int8_t* word_group_scale;  // [rows][groups] when the word rows are INT4, else nullptr
  const float* word_scale;
  const int8_t* position;
  const float* position_scale;
  const int8_t* token_type;     // or nullptr
  const float* token_type_scale;
  float* output;                // rubbish lanes are set to 0
  int32_t tokens, channels;
};
using EmbedFn = void (*)(const EmbedArgs& args, int32_t begin, int32_t end);

struct PoolArgs {
  const float* input;           // F32 panels over tokens
  float* output;                // F32 panels over sequences
  const int32_t* starts;
  int32_t tokens, sequences, channels;
};
// Pools (or selects the first token of) sequence `sequence`.
using PoolFn = void (*)(const PoolArgs& args, int32_t sequence);

// One implementation of every kernel: a row of implementations.inc.
struct Implementation {
  const char* name;
  Records records;              // LinearArgs::records
  LinearFn linear[kLastFormat + 1];  // by Format; index 0 unused
  AttentionFn attention;
  LayerNormFn layer_norm;
  QuantizeFn quantize;          // static
  QuantizeFn quantize_dynamic;
  EmbedFn embed;
  PoolFn mean_pool;
  PoolFn select_first;
  size_t (*linear_scratch)(const LinearArgs& args);                    // bytes per thread
  size_t (*attention_scratch)(int32_t head_dim, int32_t longest);     // bytes per thread
};

}  // namespace oe
#endif
