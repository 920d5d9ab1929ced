// The ops of a compiled graph: records as they are stored, and a struct of named fields for each kind.
// Generated from obert_edge/bundle/schema.py by tools/dev/generate_ops.py: edit the schema.
// clang-format off
#ifndef OBERT_EDGE_OPS_H
#define OBERT_EDGE_OPS_H

#include <stdint.h>

#include "program/enums.h"

namespace oe {

enum class OpKind : uint32_t {
  Embed = 1,
  LayerNorm = 2,
  Quantize = 3,
  QuantizeDynamic = 4,
  Linear = 5,
  Attention = 6,
  SelectFirst = 7,
  MeanPool = 8,
  Output = 9,
  Rotate = 10,
  Multiply = 11,
};
constexpr uint32_t kFirstOpKind = 1, kLastOpKind = 11;

// Places of a record; those an op does not use hold kAbsent or 0.
constexpr int32_t kMaxInputs = 4, kMaxOutputs = 4, kMaxConsts = 12, kMaxInts = 12, kMaxFloats = 8, kNameBytes = 64;

// One record of the op table, as it is stored.
struct Op {
  OpKind kind;
  int32_t inputs[kMaxInputs];
  int32_t outputs[kMaxOutputs];
  int32_t consts[kMaxConsts];
  int32_t ints[kMaxInts];
  float floats[kMaxFloats];
  char name[kNameBytes];
};

// How many places of each sort a kind of op uses, by number, and what the schema calls it.
struct OpShape {
  const char* name;
  int32_t inputs, outputs, consts, ints, floats;
};
constexpr OpShape kOpShapes[] = {
    {nullptr, 0, 0, 0, 0, 0},
    {"Embed", 0, 1, 7, 6, 0},
    {"LayerNorm", 1, 2, 2, 3, 2},
    {"Quantize", 1, 1, 0, 2, 1},
    {"QuantizeDynamic", 1, 2, 0, 1, 0},
    {"Linear", 3, 1, 7, 9, 1},
    {"Attention", 3, 1, 6, 7, 2},
    {"SelectFirst", 1, 1, 0, 1, 0},
    {"MeanPool", 1, 1, 0, 1, 0},
    {"Output", 1, 0, 0, 1, 0},
    {"Rotate", 1, 1, 2, 6, 1},
    {"Multiply", 2, 1, 0, 2, 1},
};

// Calls `DO(Name)` for every kind of op, in the order of their numbers.
#define OE_FOR_EACH_OP(DO) \
  DO(Embed) \
  DO(LayerNorm) \
  DO(Quantize) \
  DO(QuantizeDynamic) \
  DO(Linear) \
  DO(Attention) \
  DO(SelectFirst) \
  DO(MeanPool) \
  DO(Output) \
  DO(Rotate) \
  DO(Multiply)

// ---- Embed: Sum of the word, position and (optional) token-type rows, dequantized.
namespace embed_op {  // places
enum { kOutput };  // outputs
enum { kWord, kWordScale, kPosition, kPositionScale, kTokenType, kTokenTypeScale, kWordGroupScale };  // consts
enum { kVocabulary, kPositions, kTokenTypes, kChannels, kWordFormat, kNeighbors };  // ints
}  // namespace embed_op
struct EmbedFields {
  int32_t output;  // F32[channels] over tokens
  int32_t word;  // S8[vocabulary, channels], or INT4 rows as word_format says; or kAbsent
  int32_t word_scale;  // F32, one scale per row; or kAbsent
  int32_t position;  // S8[positions, channels]; or kAbsent
  int32_t position_scale;  // F32, one scale per row; or kAbsent
  int32_t token_type;  // S8[token_types, channels]; or kAbsent
  int32_t token_type_scale;  // F32, one scale per row; or kAbsent
  int32_t word_group_scale;  // S8[vocabulary, groups]: INT4 rows alone; multiplies the row's scale; or kAbsent
  int32_t vocabulary;  // rows of the word table; 0: there is none
  int32_t positions;  // rows of the position table; 0: there is none
  int32_t token_types;  // rows of the token-type table; 0: there is none
  int32_t channels;  // of the buffers
  RowFormat word_format;  // how the word rows are stored
  int32_t neighbors;  // 1: the channels are the word rows of the token after, of the token, and of the one before it, each of channels / 3; 0: they are a sum
};
static inline EmbedFields embed_fields(const Op& op) {
  return {
      op.outputs[embed_op::kOutput],
      op.consts[embed_op::kWord],
      op.consts[embed_op::kWordScale],
      op.consts[embed_op::kPosition],
      op.consts[embed_op::kPositionScale],
      op.consts[embed_op::kTokenType],
      op.consts[embed_op::kTokenTypeScale],
      op.consts[embed_op::kWordGroupScale],
      op.ints[embed_op::kVocabulary],
      op.ints[embed_op::kPositions],
      op.ints[embed_op::kTokenTypes],
      op.ints[embed_op::kChannels],
      static_cast<RowFormat>(op.ints[embed_op::kWordFormat]),
      op.ints[embed_op::kNeighbors],
  };
}

// ---- LayerNorm: LayerNorm over channels; writes float, quantized, or both at once.
namespace layer_norm_op {  // places
enum { kInput };  // inputs
enum { kOutput, kQuantized };  // outputs
enum { kGamma, kBeta };  // consts
enum { kChannels, kZeroPoint, kKind };  // ints
enum { kEpsilon, kInvScale };  // floats
}  // namespace layer_norm_op
struct LayerNormFields {
  int32_t input;  // F32[channels]
  int32_t output;  // F32[channels]; may be the input buffer; or kAbsent
  int32_t quantized;  // U8[channels]; or kAbsent
  int32_t gamma;  // F32[channels]
  int32_t beta;  // F32[channels]
  int32_t channels;  // of the buffers
  int32_t zero_point;  // zero point of the 8-bit output
  NormKind kind;  // what is normalized
  float epsilon;  // added to the variance
  float inv_scale;  // 1 / scale of the 8-bit output
};
static inline LayerNormFields layer_norm_fields(const Op& op) {
  return {
      op.inputs[layer_norm_op::kInput],
      op.outputs[layer_norm_op::kOutput],
      op.outputs[layer_norm_op::kQuantized],
      op.consts[layer_norm_op::kGamma],
      op.consts[layer_norm_op::kBeta],
      op.ints[layer_norm_op::kChannels],
      op.ints[layer_norm_op::kZeroPoint],
      static_cast<NormKind>(op.ints[layer_norm_op::kKind]),
      op.floats[layer_norm_op::kEpsilon],
      op.floats[layer_norm_op::kInvScale],
  };
}

// ---- Quantize: F32[channels] to U8[channels] with a static scale and zero point.
namespace quantize_op {  // places
enum { kInput };  // inputs
enum { kOutput };  // outputs
enum { kChannels, kZeroPoint };  // ints
enum { kInvScale };  // floats
}  // namespace quantize_op
struct QuantizeFields {
  int32_t input;  // F32[channels]
  int32_t output;  // U8[channels]
  int32_t channels;  // of the buffers
  int32_t zero_point;  // zero point of the 8-bit output
  float inv_scale;  // 1 / scale of the 8-bit output
};
static inline QuantizeFields quantize_fields(const Op& op) {
  return {
      op.inputs[quantize_op::kInput],
      op.outputs[quantize_op::kOutput],
      op.ints[quantize_op::kChannels],
      op.ints[quantize_op::kZeroPoint],
      op.floats[quantize_op::kInvScale],
  };
}

// ---- QuantizeDynamic: F32[channels] to U8[channels] with one scale and zero point per token.
namespace quantize_dynamic_op {  // places
enum { kInput };  // inputs
enum { kOutput, kParams };  // outputs
enum { kChannels };  // ints
}  // namespace quantize_dynamic_op
struct QuantizeDynamicFields {
  int32_t input;  // F32[channels]
  int32_t output;  // U8[channels]
  int32_t params;  // F32[2]: channel 0 the scale, channel 1 the zero point (a whole number)
  int32_t channels;  // of the buffers
};
static inline QuantizeDynamicFields quantize_dynamic_fields(const Op& op) {
  return {
      op.inputs[quantize_dynamic_op::kInput],
      op.outputs[quantize_dynamic_op::kOutput],
      op.outputs[quantize_dynamic_op::kParams],
      op.ints[quantize_dynamic_op::kChannels],
  };
}

// ---- Linear: y = activation(x W^T + b) (+ residual) on U8 activations and S8 weights.
namespace linear_op {  // places
enum { kInput, kParams, kResidual };  // inputs
enum { kOutput };  // outputs
enum { kRows, kOffsets, kColumns, kWeights, kScale, kBias, kCorrection };  // consts
enum { kK, kN, kGroups, kFormat, kActivation, kZeroPoint, kLo, kHi, kColumnCoding };  // ints
enum { kInvScale };  // floats
}  // namespace linear_op
struct LinearFields {
  int32_t input;  // U8[k]
  int32_t params;  // F32[2], of the op that quantized the input per token; or kAbsent
  int32_t residual;  // F32[n]; a F32 output may be the same buffer; or kAbsent
  int32_t output;  // F32, U8 or S8 [n]
  int32_t rows;  // U32[groups * R]: the output channel of each packed row, or kPadRow
  int32_t offsets;  // U32[groups + 1]: the first quad or block of each group
  int32_t columns;  // U16, or bits, as column_coding says; a dense format has none; or kAbsent
  int32_t weights;  // S8, laid out as format says
  int32_t scale;  // F32[n]
  int32_t bias;  // F32[n]
  int32_t correction;  // I32[n]: -zero_point * sum(w) for a static input, sum(w) for a per-token one
  int32_t k;  // input channels
  int32_t n;  // output channels
  int32_t groups;  // groups of R packed rows
  Format format;  // layout of the weights
  Activation activation;  // function of the epilogue
  int32_t zero_point;  // zero point of the 8-bit output
  int32_t lo;  // smallest value of an 8-bit output: 0 for U8, -127 for S8
  int32_t hi;  // largest value of an 8-bit output: 255 for U8, 127 for S8
  ColumnCoding column_coding;  // how columns is stored
  float inv_scale;  // 1 / scale of the 8-bit output
};
static inline LinearFields linear_fields(const Op& op) {
  return {
      op.inputs[linear_op::kInput],
      op.inputs[linear_op::kParams],
      op.inputs[linear_op::kResidual],
      op.outputs[linear_op::kOutput],
      op.consts[linear_op::kRows],
      op.consts[linear_op::kOffsets],
      op.consts[linear_op::kColumns],
      op.consts[linear_op::kWeights],
      op.consts[linear_op::kScale],
      op.consts[linear_op::kBias],
      op.consts[linear_op::kCorrection],
      op.ints[linear_op::kK],
      op.ints[linear_op::kN],
      op.ints[linear_op::kGroups],
      static_cast<Format>(op.ints[linear_op::kFormat]),
      static_cast<Activation>(op.ints[linear_op::kActivation]),
      op.ints[linear_op::kZeroPoint],
      op.ints[linear_op::kLo],
      op.ints[linear_op::kHi],
      static_cast<ColumnCoding>(op.ints[linear_op::kColumnCoding]),
      op.floats[linear_op::kInvScale],
  };
}

// ---- Attention: Multi-head self-attention within each sequence, in INT8.
namespace attention_op {  // places
enum { kQuery, kKey, kValue };  // inputs
enum { kOutput };  // outputs
enum { kBias, kRowOfDistance, kPositionKey, kPositionQuery, kPositionKeyScale, kPositionQueryScale };  // consts
enum { kHeads, kHeadDim, kQueryZeroPoint, kZeroPoint, kDistances, kWindow, kPositions };  // ints
enum { kScoreScale, kContextScale };  // floats
}  // namespace attention_op
struct AttentionFields {
  int32_t query;  // U8[heads * head_dim]
  int32_t key;  // S8[heads * head_dim]
  int32_t value;  // S8[heads * head_dim]
  int32_t output;  // U8 or F32 [heads * head_dim]
  int32_t bias;  // F32[heads, 2 * distances - 1]: added to a score, by how far the key is behind the query, times log2(e); or kAbsent
  int32_t row_of_distance;  // U16[2 * distances - 1]: the row of the position tables, by how far the key is behind the query; or kAbsent
  int32_t position_key;  // S8[heads, head_dim / 4, positions, 4]: what queries are multiplied with; or kAbsent
  int32_t position_query;  // S8[heads, head_dim / 4, positions, 4]: what keys are multiplied with; or kAbsent
  int32_t position_key_scale;  // F32[heads, positions]: of a row's products with queries, as score_scale; or kAbsent
  int32_t position_query_scale;  // F32[heads, positions]: of a row's products with keys, as score_scale; or kAbsent
  int32_t heads;  // number of heads
  int32_t head_dim;  // channels of one head
  int32_t query_zero_point;  // zero point of the query
  int32_t zero_point;  // zero point of the 8-bit output
  int32_t distances;  // D: the bias of key j to query i is number min(max(j - i, 1 - D), D - 1) + D - 1 of its head, and its row of the position tables likewise; 0: there is neither
  int32_t window;  // keys more than so many tokens from the query do not count; 0: all do. There is no bias then
  int32_t positions;  // rows of the position tables; 0: there are none. There is neither bias nor window else
  float score_scale;  // s_q * s_k / sqrt(head_dim) * log2(e)
  float context_scale;  // s_v * inv_scale for a U8 output, s_v for a F32 one
};
static inline AttentionFields attention_fields(const Op& op) {
  return {
      op.inputs[attention_op::kQuery],
      op.inputs[attention_op::kKey],
      op.inputs[attention_op::kValue],
      op.outputs[attention_op::kOutput],
      op.consts[attention_op::kBias],
      op.consts[attention_op::kRowOfDistance],
      op.consts[attention_op::kPositionKey],
      op.consts[attention_op::kPositionQuery],
      op.consts[attention_op::kPositionKeyScale],
      op.consts[attention_op::kPositionQueryScale],
      op.ints[attention_op::kHeads],
      op.ints[attention_op::kHeadDim],
      op.ints[attention_op::kQueryZeroPoint],
      op.ints[attention_op::kZeroPoint],
      op.ints[attention_op::kDistances],
      op.ints[attention_op::kWindow],
      op.ints[attention_op::kPositions],
      op.floats[attention_op::kScoreScale],
      op.floats[attention_op::kContextScale],
  };
}

// ---- SelectFirst: The first token of each sequence.
namespace select_first_op {  // places
enum { kInput };  // inputs
enum { kOutput };  // outputs
enum { kChannels };  // ints
}  // namespace select_first_op
struct SelectFirstFields {
  int32_t input;  // F32[channels] over tokens
  int32_t output;  // F32[channels] over sequences
  int32_t channels;  // of the buffers
};
static inline SelectFirstFields select_first_fields(const Op& op) {
  return {
      op.inputs[select_first_op::kInput],
      op.outputs[select_first_op::kOutput],
      op.ints[select_first_op::kChannels],
  };
}

// ---- MeanPool: The mean over each sequence's tokens.
namespace mean_pool_op {  // places
enum { kInput };  // inputs
enum { kOutput };  // outputs
enum { kChannels };  // ints
}  // namespace mean_pool_op
struct MeanPoolFields {
  int32_t input;  // F32[channels] over tokens
  int32_t output;  // F32[channels] over sequences
  int32_t channels;  // of the buffers
};
static inline MeanPoolFields mean_pool_fields(const Op& op) {
  return {
      op.inputs[mean_pool_op::kInput],
      op.outputs[mean_pool_op::kOutput],
      op.ints[mean_pool_op::kChannels],
  };
}

// ---- Output: A result of the model, written row-major [tokens or sequences, channels].
namespace output_op {  // places
enum { kInput };  // inputs
enum { kChannels };  // ints
}  // namespace output_op
struct OutputFields {
  int32_t input;  // F32[channels]
  int32_t channels;  // of the buffers
};
static inline OutputFields output_fields(const Op& op) {
  return {
      op.inputs[output_op::kInput],
      op.ints[output_op::kChannels],
  };
}

// ---- Rotate: Turns pairs of channels of each head by angles that grow with the token's position.
namespace rotate_op {  // places
enum { kInput };  // inputs
enum { kOutput };  // outputs
enum { kCosine, kSine };  // consts
enum { kHeads, kHeadDim, kPositions, kZeroPoint, kLo, kHi };  // ints
enum { kInvScale };  // floats
}  // namespace rotate_op
struct RotateFields {
  int32_t input;  // F32[heads * head_dim]
  int32_t output;  // U8 or S8 [heads * head_dim]
  int32_t cosine;  // F32[positions, head_dim / 2]
  int32_t sine;  // F32[positions, head_dim / 2]
  int32_t heads;  // number of heads
  int32_t head_dim;  // channels of one head; even
  int32_t positions;  // rows of the tables
  int32_t zero_point;  // zero point of the 8-bit output
  int32_t lo;  // smallest value of the output: 0 for U8, -127 for S8
  int32_t hi;  // largest value of the output: 255 for U8, 127 for S8
  float inv_scale;  // 1 / scale of the 8-bit output
};
static inline RotateFields rotate_fields(const Op& op) {
  return {
      op.inputs[rotate_op::kInput],
      op.outputs[rotate_op::kOutput],
      op.consts[rotate_op::kCosine],
      op.consts[rotate_op::kSine],
      op.ints[rotate_op::kHeads],
      op.ints[rotate_op::kHeadDim],
      op.ints[rotate_op::kPositions],
      op.ints[rotate_op::kZeroPoint],
      op.ints[rotate_op::kLo],
      op.ints[rotate_op::kHi],
      op.floats[rotate_op::kInvScale],
  };
}

// ---- Multiply: The product of two values, channel by channel: a gated unit.
namespace multiply_op {  // places
enum { kLeft, kRight };  // inputs
enum { kOutput };  // outputs
enum { kChannels, kZeroPoint };  // ints
enum { kInvScale };  // floats
}  // namespace multiply_op
struct MultiplyFields {
  int32_t left;  // F32[channels]
  int32_t right;  // F32[channels]
  int32_t output;  // U8 or F32 [channels]
  int32_t channels;  // of the buffers
  int32_t zero_point;  // zero point of the 8-bit output
  float inv_scale;  // 1 / scale of the 8-bit output
};
static inline MultiplyFields multiply_fields(const Op& op) {
  return {
      op.inputs[multiply_op::kLeft],
      op.inputs[multiply_op::kRight],
      op.outputs[multiply_op::kOutput],
      op.ints[multiply_op::kChannels],
      op.ints[multiply_op::kZeroPoint],
      op.floats[multiply_op::kInvScale],
  };
}

}  // namespace oe
#endif
