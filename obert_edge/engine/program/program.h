// The compiled graph in memory: the C++ twin of obert_edge/bundle/program.py.
#ifndef OBERT_EDGE_PROGRAM_H
#define OBERT_EDGE_PROGRAM_H

#include <stdint.h>

#include "base/array.h"
#include "kernels/kernels.h"

namespace oe {

constexpr int32_t kAbsent = -1;

// Limits that keep every size and every int32 sum in range; a program beyond them is refused.
constexpr uint32_t kMaxRecords = 1u << 20;      // buffers, constants or ops
constexpr uint32_t kMaxChannels = 1u << 22;     // of a buffer
constexpr uint32_t kMaxPositions = 65535;       // 255 * 127 * 65535 < 2^31: the context sums of attention
constexpr int32_t kMaxInputChannels = 65535;    // column lists are U16; 255 * 127 * 65536 < 2^31
constexpr uint32_t kMaxColumnsOfGroup = 65536;  // with repeated padding columns

enum class Domain : uint32_t { Tokens = 0, Sequences = 1 };

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
};

// How the columns of a sparse linear are stored; MASKS: a bit for each column, or block of four, of every group.
enum class ColumnCoding : int32_t { List = 0, Masks = 1 };

struct Buffer {
  DType dtype;
  Domain domain;
  uint32_t channels;
  uint32_t slot;
};

struct Const {
  uint64_t offset;
  uint64_t bytes;
};

// One record of the op table, fields by position; the enums below name the positions.
struct Op {
  OpKind kind;
  int32_t inputs[4];
  int32_t outputs[4];
  int32_t consts[12];
  int32_t ints[12];
  float floats[8];
  char name[64];
};

namespace embed_op {
enum { kWord, kWordScale, kPosition, kPositionScale, kTokenType, kTokenTypeScale, kWordGroupScale };  // consts
enum { kVocabulary, kPositions, kTokenTypes, kChannels, kWordFormat };                                // ints
enum { kInt8, kInt4 };                                                                                // word formats
}  // namespace embed_op
namespace layer_norm_op {
enum { kOutput, kQuantized };  // outputs
enum { kGamma, kBeta };
enum { kChannels, kZeroPoint };
enum { kEpsilon, kInvScale };  // floats
}  // namespace layer_norm_op
namespace quantize_op {
enum { kOutput, kParams };
enum { kChannels, kZeroPoint };
enum { kInvScale };
}  // namespace quantize_op
namespace linear_op {
enum { kInput, kParams, kResidual };  // inputs
enum { kRows, kOffsets, kColumns, kWeights, kScale, kBias, kCorrection };
enum { kK, kN, kGroups, kFormat, kActivation, kZeroPoint, kLo, kHi, kColumnCoding };
enum { kInvScale };
}  // namespace linear_op
namespace attention_op {
enum { kQuery, kKey, kValue };  // inputs
enum { kHeads, kHeadDim, kQueryZeroPoint, kZeroPoint };
enum { kScoreScale, kContextScale };
}  // namespace attention_op
namespace pool_op {
enum { kChannels };  // also of Output
}  // namespace pool_op

struct Program {
  Array<Buffer> buffers;
  Array<Const> consts;
  Array<Op> ops;
  Array<int32_t> outputs;  // op index of every Output, in order
  uint32_t max_positions = 0;
  uint32_t slots = 0;
  const uint8_t* weights = nullptr;  // borrowed, 64-byte aligned

  // nullptr when the constant is absent.
  template <class T>
  const T* constant(int32_t index) const {
    return index == kAbsent ? nullptr : reinterpret_cast<const T*>(weights + consts[static_cast<size_t>(index)].offset);
  }
};

// Output rows that share one list of columns.
static inline int32_t rows_of(Format format) {
  switch (format) {
    case Format::RowGather2:
      return 2;
    case Format::RowGather4:
    case Format::Dense4:
      return 4;
    case Format::RowGather1:
    case Format::Block1x4:
      break;
  }
  return 1;
}

// Of one group, when columns are stored as masks.
static inline size_t mask_bytes(Format format, int32_t k) {
  const size_t bits = static_cast<size_t>(format == Format::Block1x4 ? k / 4 : k);
  return (bits + 7) / 8;
}

static inline size_t bytes_of(DType dtype) { return dtype == DType::F32 ? 4 : 1; }

// Parses and validates: after OE_OK every op can be run by the kernels on buffers of the declared sizes, for any
// valid batch, without leaving a buffer or a constant. The blobs may come from anywhere.
int32_t parse_program(const void* blob, uint64_t blob_bytes, const void* weights, uint64_t weights_bytes,
                      Program* program);

// Validates each op against its buffers and constants (the second half of parse_program).
int32_t validate_ops(const Program& program);

// Checks that every op reads what an earlier op wrote and nothing has overwritten since, as a whole run needs.
int32_t validate_dataflow(const Program& program);

}  // namespace oe
#endif
