// The contract between the executor and the kernels: the layouts they share and the arguments of every kernel.
//
// What a kernel computes is docs/reference/numerics.md, bit for bit; the scalar kernels of targets/generic are that
// page in C++, and tests/kernels holds every other implementation to their bits. What each part of a layout is called:
//
//   tokens     packed tokens: the sequences of a batch one after the other, without padding. Ops after pooling have
//              one "token" per sequence; the layout is the same.
//   panel      64 consecutive tokens of a buffer, [channels][tokens]. The last panel of a buffer is 16, 32, 48 or 64
//              tokens wide: the number of tokens is rounded up to 16.
//   padding    lanes of the last panel beyond the last token. They may hold anything, a NaN among it, and no result
//   lanes      depends on them, so kernels may compute with them instead of treating the end of a batch apart.
//   unit       16 tokens of a panel, from a multiple of 16 on: what one vector type of a kernel holds.
//   row        an output channel of a linear; a group of R rows shares its list of columns.
//   column     an input channel that a sparse weight matrix keeps.
//   quad       four columns of a group with their 4 x R weights: what one step of a dot-product instruction takes.
//   block      four neighboring input channels of one row (the 1x4 pattern).
//
// A buffer of C channels is a sequence of panels:
//
//         panel 0 (64 tokens wide)       panel 1 (here 32 wide)
//   token    0   1   2 ...  63              64  65 ...  95
//   c = 0  [ .   .   .       . ]          [  .   .       . ]     A channel of a panel is contiguous: a vector
//   c = 1  [ .   .   .       . ]          [  .   .       . ]     register holds one channel of 16 or 64 tokens,
//     ...                                                        and no sum ever crosses the lanes of a register.
//   c = C-1[ .   .   .       . ]          [  .   .       . ]
//
// Element (c, t) lies 64 * (t / 64) * C + c * panel_width(tokens, t / 64) + t % 64 elements after the first.
#ifndef OBERT_EDGE_KERNELS_H
#define OBERT_EDGE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "program/enums.h"

namespace oe {

// The inline functions of this header are `static` because each object file is compiled for its own instruction set:
// the linker would merge their copies into one, which could hold instructions that the CPU at hand does not have.

// Width in tokens of panel `panel` of a buffer of `tokens` tokens (or sequences).
static inline int32_t panel_width(int32_t tokens, int32_t panel) {
  const int32_t padded = (tokens + kStep - 1) / kStep * kStep;
  const int32_t left = padded - panel * kPanel;
  return left < kPanel ? left : kPanel;
}
static inline int32_t panel_count(int32_t tokens) { return (tokens + kPanel - 1) / kPanel; }

// Records: the columns and the weights of a sparse linear as one stream, which the hardware prefetches better than two.
// A record is four columns (U16 each, shifted left by column_shift(k)), followed by their weights, S8 [rows][4]:
//
//   row-gather   a record is one quad              [c0 c1 c2 c3 | row 0: w0 w1 w2 w3 | ... | row R-1: w0 w1 w2 w3]
//   1x4          a record is one block of each of  [b0 b1 b2 b3 | row 0: block of 4  | ... | row 3: block of 4   ]
//                four consecutive groups; a column is the first input channel of its block. A row that has fewer blocks
//                than the others of its four is filled up with weights of zero.
//
// After the last record follow kRecordsBeyond records of zeros, so that a kernel may load ahead without a check.
// PairedRowGather: the columns of each row-gather group are in an order in which VPMADDUBSW does not saturate, and the
// quads of the other formats are marked by how it may take them (pairing.h).
enum class Records : uint8_t { None, All, PairedRowGather };  // which sparse linears an implementation reads as records
constexpr size_t kColumnsOfRecord = 8;                        // bytes of the four columns
constexpr uint64_t kRecordsBeyond = 2;
// The quads of a group that are marked go through a kernel so many at a time: eight bytes from any on hold as many marks.
constexpr uint32_t kMarks = 56;
// Shifted left by 3, a column is the byte distance of rows of 8 tokens, and the addressing modes of x86 multiply that
// by 2, 4 or 8: panels of 16, 32 and 64 tokens then need no multiplication. Beyond k = 8192 the shifted columns do not
// fit 16 bits.
static inline int column_shift(int32_t k) { return k <= 8192 ? 3 : 0; }

// Arguments of the linear kernels: docs/reference/numerics.md, "Linear".
struct LinearArgs {
  const uint8_t* input;     // U8 panels [k]
  const float* params;      // F32 panels [2]: per-token scale and zero point of a dynamic input; nullptr: static input
  const float* residual;    // F32 panels [n], or nullptr; may alias output
  void* output;             // panels [n] of out_type
  DType out_type;           // of output
  Activation activation;    // of the epilogue
  int32_t tokens;           // packed tokens (or sequences)
  int32_t k, n, groups;     // input channels, output channels, groups of rows
  const uint32_t* rows;     // [groups * R] output channels; every one of the n channels is there exactly once
  const uint32_t* offsets;  // [groups + 1]: first quad (row-gather) or block (1x4) of each group.
                            // Dense4: must not be read; group g owns quads [g * q, (g + 1) * q) with q = ceil(k / 4)
  const uint16_t* columns;  // row-gather: [4 * quads] input channels, all < k (padding: weight 0, any channel).
                            // 1x4: [blocks] the FIRST input channel of each block, channel + 3 < k.
                            // Dense4: nullptr; quad q of a group is channels 4q .. 4q + 3. Weights of channels
                            // >= k are zero, and those channels must not be loaded
  const int8_t* weights;    // [quads][R][4], or [blocks][4] (R = 1)
  const uint8_t* records;   // in place of columns and weights where Implementation::records says so; else nullptr
  const uint32_t* record_offsets;  // 1x4 with records: [ceil(groups / 4) + 1], first record of every four groups.
                                   // Paired row-gather: [groups][2], the two counts of PairedQuads
  const uint8_t* hard;             // Dense4 and 1x4 beside paired row-gather: marks (pairing.h), a bit for each quad
  const uint8_t* by_twos;          // or block, of which eight bytes may be read from any on; the second 1x4 alone
  const float* scale;              // [n]
  const float* bias;               // [n]
  const int32_t* correction;       // [n]; sums and what is added to them wrap around in int32
  const int32_t* bias_terms;   // [groups * R], as `rows`: Implementation::activation_bias times the sum of the row's
                               // weights, which its sums lack; nullptr where that bias is 0
  int32_t zero_point, lo, hi;  // of an 8-bit output
  float inv_scale;             // of an 8-bit output: 1 / scale
  bool rounds_to_int32;        // linear_traits.h: every result of a static input fits an int32 before it is clamped
  bool rows_are_neighbors;     // linear_traits.h: the rows of each group (1x4: of every four groups) follow each other
};
// The memory of a thread for a kernel of linears.
struct LinearScratch {
  void* memory;      // aligned to 64 bytes, at least Implementation::linear_scratch(args) bytes
  bool holds_panel;  // it is as the same kernel left it that was last called for this panel of this input, so what the
                     // kernel made of the panel's activations is still there
};
// Computes the rows of groups [group_begin, group_end) for the tokens of one panel. 1x4 with records: both ends are
// multiples of 4, or group_end is args.groups.
using LinearFn = void (*)(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                          const LinearScratch& scratch);

// Arguments of attention: docs/reference/numerics.md, "Attention".
struct AttentionArgs {
  const uint8_t* query;   // U8 panels [heads * head_dim]
  const int8_t* key;      // S8 panels [heads * head_dim]
  const int8_t* value;    // S8 panels [heads * head_dim]
  void* output;           // U8 or F32 panels [heads * head_dim]
  DType out_type;         // of output
  int32_t tokens;         // packed tokens
  const int32_t* starts;  // [sequences + 1]: first token of each sequence, and the end of the last
  int32_t heads, head_dim, query_zero_point, zero_point;
  float score_scale, context_scale;
  const float* bias;  // [heads][2 * distances - 1], finite: added to the scores; nullptr: there is none
  int32_t window;     // keys more than so many tokens from a query do not count; 0: all do. Not together with a bias
  int32_t distances;  // key j has the bias number clamp(j - i, 1 - distances, distances - 1) + distances - 1 of query i
  // Tables of relative positions; not together with a bias or a window. head_dim is a multiple of 4 where they are.
  int32_t positions;                  // rows of a table; 0: there are none, and what follows is nullptr
  const uint16_t* row_of_distance;    // [2 * distances - 1], numbered as biases are; all < positions
  const int8_t* position_key;         // [heads][head_dim / 4][positions][4]: queries are multiplied with it
  const int8_t* position_query;       // [heads][head_dim / 4][positions][4]: keys are multiplied with it
  const float* position_key_scale;    // [heads][positions]
  const float* position_query_scale;  // [heads][positions]
};
// The row of the position tables for a key so many tokens behind a query.
static inline size_t position_row(const AttentionArgs& args, int32_t behind) {
  const int32_t most = args.distances - 1;
  return args.row_of_distance[(behind > most ? most : behind < -most ? -most : behind) + most];
}
// Where the position tables of a head begin.
static inline size_t position_table(const AttentionArgs& args, int32_t head) {
  return static_cast<size_t>(head) * static_cast<size_t>(args.head_dim) * static_cast<size_t>(args.positions);
}
// The numbers of a head's biases for how far keys are behind a query: -reach .. reach, of which those beyond the table
// are its ends. In that order, or in the other one.
static inline void spread_biases(const AttentionArgs& args, int32_t head, int32_t reach, bool reversed, float* out) {
  const int32_t last = 2 * args.distances - 2;
  const float* table = args.bias + static_cast<size_t>(head) * static_cast<size_t>(last + 1);
  for (int32_t i = 0; i <= 2 * reach; ++i) {
    const int32_t number = i - reach + args.distances - 1;
    out[reversed ? 2 * reach - i : i] = table[number < 0 ? 0 : number > last ? last : number];
  }
}
// Computes one head of one sequence and writes the lanes of that sequence's tokens alone, because another thread may be
// writing those beside them. `scratch` belongs to the calling thread, is aligned to 64 bytes and holds
// Implementation::attention_scratch(args, longest sequence of the batch) bytes.
using AttentionFn = void (*)(const AttentionArgs& args, int32_t sequence, int32_t head, void* scratch);

// The kernels below compute tokens [begin, end). Both are multiples of 16 (padding lanes are computed like any other),
// and the range lies inside one panel.

// Arguments of LayerNorm: docs/reference/numerics.md, "LayerNorm".
struct LayerNormArgs {
  const float* input;  // F32 panels [channels]
  float* output;       // F32 panels [channels], or nullptr; may alias input
  uint8_t* quantized;  // U8 panels [channels], or nullptr
  const float* gamma;  // [channels]
  const float* beta;   // [channels]
  NormKind kind;       // RMS: the mean counts as 0; NONE: and the deviation as 1
  int32_t tokens, channels, zero_point;
  float epsilon, inv_scale;
};
using LayerNormFn = void (*)(const LayerNormArgs& args, int32_t begin, int32_t end);

// Arguments of static and dynamic quantization: docs/reference/numerics.md, "Quantization".
struct QuantizeArgs {
  const float* input;  // F32 panels [channels]
  uint8_t* output;     // U8 panels [channels]
  float* params;       // dynamic: F32 panels [2], the scale and zero point found for each token; static: nullptr
  int32_t tokens, channels, zero_point;
  float inv_scale;
};
using QuantizeFn = void (*)(const QuantizeArgs& args, int32_t begin, int32_t end);

// Arguments of Rotate: docs/reference/numerics.md, "Rotation and product".
struct RotateArgs {
  const float* input;        // F32 panels [heads * head_dim]
  void* output;              // U8 or S8 panels [heads * head_dim]
  const int32_t* positions;  // [tokens]
  const float* cosine;       // [positions][head_dim / 2]
  const float* sine;         // [positions][head_dim / 2]
  int32_t tokens, heads, head_dim, zero_point, lo, hi;
  float inv_scale;
};
using RotateFn = void (*)(const RotateArgs& args, int32_t begin, int32_t end);

// Arguments of Multiply: docs/reference/numerics.md, "Rotation and product".
struct MultiplyArgs {
  const float* left;   // F32 panels [channels]
  const float* right;  // F32 panels [channels]
  void* output;        // U8 or F32 panels [channels]
  DType out_type;      // of output
  int32_t tokens, channels, zero_point;
  float inv_scale;
};
using MultiplyFn = void (*)(const MultiplyArgs& args, int32_t begin, int32_t end);

// A row of INT4 word embeddings is cut into groups of 32 channels of 16 bytes each: channel i of a group is the low
// half of byte i, channel 16 + i the high half.
constexpr int32_t kInt4GroupBytes = kInt4Group / 2;
static inline int32_t groups_of(int32_t channels) { return (channels + kInt4Group - 1) / kInt4Group; }

// Arguments of the embedding: docs/reference/numerics.md, "Embedding, pooling".
struct EmbedArgs {
  const int32_t* ids;              // [tokens], without the padding lanes
  const int32_t* positions;        // [tokens]
  const int32_t* token_types;      // [tokens]; nullptr: all are type 0
  const int32_t* starts;           // [sequences + 1]: first token of each sequence, and the end of the last
  const int8_t* word;              // [vocabulary][width], or INT4 rows; nullptr: the sum has no word rows
  const int8_t* word_group_scale;  // [vocabulary][groups_of(width)] where the word rows are INT4, else nullptr
  const float* word_scale;         // [vocabulary]
  const int8_t* position;          // [positions][channels]; nullptr: the model has no position table
  const float* position_scale;     // [positions]
  const int8_t* token_type;        // [types][channels]; nullptr: the model has no token types
  const float* token_type_scale;   // [types]
  float* output;                   // F32 panels [channels]; padding lanes are set to 0
  int32_t tokens, sequences, channels;
  bool neighbors;  // the channels are three word rows: of the token after, of the token, and of the one before it
};

// Channels of a row of the tables.
static inline int32_t row_width(const EmbedArgs& args) { return args.neighbors ? args.channels / 3 : args.channels; }

// The id that stands `step` tokens behind `token` in its sequence (before it, where negative); -1: none does.
static inline int32_t id_beside(const EmbedArgs& args, int32_t token, int32_t step) {
  int32_t sequence = 0, end = args.sequences;
  while (end - sequence > 1) {
    const int32_t middle = sequence + (end - sequence) / 2;
    if (args.starts[middle] <= token) {
      sequence = middle;
    } else {
      end = middle;
    }
  }
  const int32_t other = token + step;
  return other >= args.starts[sequence] && other < args.starts[sequence + 1] ? args.ids[other] : -1;
}
using EmbedFn = void (*)(const EmbedArgs& args, int32_t begin, int32_t end);

// Arguments of pooling: docs/reference/numerics.md, "Embedding, pooling".
struct PoolArgs {
  const float* input;     // F32 panels [channels] over tokens
  float* output;          // F32 panels [channels] over sequences
  const int32_t* starts;  // [sequences + 1]: first token of each sequence, and the end of the last
  int32_t tokens, sequences, channels;
};
// Writes the mean (or the first token) of sequence `sequence`.
using PoolFn = void (*)(const PoolArgs& args, int32_t sequence);

// One implementation of every kernel; implementations.inc lists them all.
struct Implementation {
  const char* name;
  Records records;                   // which linears are given LinearArgs::records
  int32_t activation_bias;           // what its linears take off activations before they multiply
  LinearFn linear[kLastFormat + 1];  // by Format; index 0 is unused
  AttentionFn attention;
  LayerNormFn layer_norm;
  QuantizeFn quantize;  // with one scale for all tokens
  QuantizeFn quantize_dynamic;
  RotateFn rotate;
  MultiplyFn multiply;
  EmbedFn embed;
  PoolFn mean_pool;
  PoolFn select_first;
  size_t (*linear_scratch)(const LinearArgs& args);  // bytes per thread
  // Bytes per thread; `longest`: tokens. Of args, the numbers of the op are read and no tokens.
  size_t (*attention_scratch)(const AttentionArgs& args, int32_t longest);
};

}  // namespace oe
#endif
