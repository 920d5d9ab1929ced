// The enums and constants of a compiled graph.
// Generated from obert_edge/bundle/schema.py by tools/dev/generate_ops.py: edit the schema.
//
// Kernels include this file and are compiled for their own instruction set, so it holds no function:
// the linker could keep their copy of one, which baseline code must not run.
// clang-format off
#ifndef OBERT_EDGE_ENUMS_H
#define OBERT_EDGE_ENUMS_H

#include <stdint.h>

namespace oe {

// Stands where an optional buffer or constant is left out.
constexpr int32_t kAbsent = -1;
// Tokens in a full panel of activations.
constexpr int32_t kPanel = 64;
// Tokens by which the last, narrower panel grows.
constexpr int32_t kStep = 16;
// Marks a packed row that is no output channel.
constexpr uint32_t kPadRow = 0xFFFFFFFFu;
// Input channels of a linear at most: columns are stored as U16, and 255 * 127 * 65536 < 2^31.
constexpr int32_t kMaxInputChannels = 65535;
// Channels of an INT4 row that share a scale.
constexpr int32_t kInt4Group = 32;

// Element type of an activation buffer.
enum class DType : int32_t {
  U8 = 1,  // quantized, with a zero point
  S8 = 2,  // quantized, symmetric
  F32 = 3,  // float32
};
constexpr int32_t kFirstDType = 1, kLastDType = 3;
// The names of a DType, by number.
constexpr const char* kDTypeNames[] = {nullptr, "U8", "S8", "F32"};
// By number: Bytes of one element.
constexpr int32_t kDTypeBytes[] = {0, 1, 1, 4};

// Whether a buffer holds one vector of channels per token or per sequence.
enum class Domain : int32_t {
  Tokens = 0,  // one per packed token of the batch
  Sequences = 1,  // one per sequence of the batch
};
constexpr int32_t kFirstDomain = 0, kLastDomain = 1;
// The names of a Domain, by number.
constexpr const char* kDomainNames[] = {"TOKENS", "SEQUENCES"};

// How the weights of a linear op are packed (diagrams: bundle/packing.py).
enum class Format : int32_t {
  RowGather1 = 1,  // single weights: one output row per group
  RowGather2 = 2,  // 2x1 blocks: two output rows share their columns
  RowGather4 = 3,  // 4x1 blocks: four output rows share their columns
  Dense4 = 4,  // every column, four output rows at a time, no column list
  Block1x4 = 5,  // blocks of four consecutive inputs of one output row
};
constexpr int32_t kFirstFormat = 1, kLastFormat = 5;
// The names of a Format, by number.
constexpr const char* kFormatNames[] = {nullptr, "ROW_GATHER_1", "ROW_GATHER_2", "ROW_GATHER_4", "DENSE_4", "BLOCK_1X4"};
// By number: R: output rows of a group, which are computed together.
constexpr int32_t kFormatRows[] = {0, 1, 2, 4, 4, 1};
// By number: Consecutive input columns that one number of the column list stands for.
constexpr int32_t kFormatBlock[] = {0, 1, 1, 1, 1, 4};
// By number: Whether zeros are left out and columns listed.
constexpr bool kFormatIsSparse[] = {false, true, true, true, false, true};

// How the rows of the word-embedding table are stored (see bundle/rows.py).
enum class RowFormat : int32_t {
  Int8 = 0,  // S8[channels], one scale per row
  Int4 = 1,  // two values a byte, in groups of 32 channels with a scale each
};
constexpr int32_t kFirstRowFormat = 0, kLastRowFormat = 1;
// The names of a RowFormat, by number.
constexpr const char* kRowFormatNames[] = {"INT8", "INT4"};

// How a bundle stores which input columns a sparse format keeps (see bundle/packing.py).
enum class ColumnCoding : int32_t {
  List = 0,  // numbers, U16
  Masks = 1,  // one bit for each column or block of every group
};
constexpr int32_t kFirstColumnCoding = 0, kLastColumnCoding = 1;
// The names of a ColumnCoding, by number.
constexpr const char* kColumnCodingNames[] = {"LIST", "MASKS"};

// Element-wise function in the epilogue of a linear op.
enum class Activation : int32_t {
  None = 0,  // the identity
  Gelu = 1,  // exact: x * Phi(x)
  GeluTanh = 2,  // the tanh approximation
  Relu = 3,  // max(x, 0)
  Tanh = 4,  // tanh(x)
  Silu = 5,  // x * sigmoid(x)
};
constexpr int32_t kFirstActivation = 0, kLastActivation = 5;
// The names of a Activation, by number.
constexpr const char* kActivationNames[] = {"NONE", "GELU", "GELU_TANH", "RELU", "TANH", "SILU"};
// By number: The bundle format whose readers know it.
constexpr int32_t kActivationReader[] = {1, 1, 1, 1, 1, 3};

// What a LayerNorm does to a token before it is multiplied by gamma.
enum class NormKind : int32_t {
  Layer = 0,  // takes the mean away and divides by the deviation
  Rms = 1,  // divides by the root of the mean square
  None = 2,  // nothing (MobileBERT's NoNorm)
};
constexpr int32_t kFirstNormKind = 0, kLastNormKind = 2;
// The names of a NormKind, by number.
constexpr const char* kNormKindNames[] = {"LAYER", "RMS", "NONE"};

}  // namespace oe
#endif
