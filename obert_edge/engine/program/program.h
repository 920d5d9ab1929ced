// The compiled graph in memory. The bytes it is parsed from are described in obert_edge/bundle/program.py, and the
// fields of its ops in ops.h, which is generated.
#ifndef OBERT_EDGE_PROGRAM_H
#define OBERT_EDGE_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/array.h"
#include "program/ops.h"

namespace oe {

// Limits that keep every size and every int32 sum in range; a program beyond them is refused.
constexpr uint32_t kMaxRecords = 1u << 20;      // buffers, constants or ops
constexpr uint32_t kMaxChannels = 1u << 22;     // of a buffer
constexpr uint32_t kMaxPositions = 65535;       // 255 * 127 * 65535 < 2^31: the context sums of attention
constexpr uint32_t kMaxColumnsOfGroup = 65536;  // of a sparse linear, with the padding columns of its last quad

// Weights, keys and values are symmetric INT8. Some kernels double products of two codes in 16 bits, or negate a code in
// 8 bits, which -128 would overflow, so that they would differ from the others.
constexpr int32_t kLeastCode = -127;

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

struct Program {
  Array<Buffer> buffers;
  Array<Const> consts;
  Array<Op> ops;
  Array<int32_t> outputs;  // the index of every Output op, ascending
  uint32_t max_positions = 0;
  uint32_t slots = 0;
  const uint8_t* weights = nullptr;  // the caller's, 64-byte aligned
  uint64_t weights_bytes = 0;

  // The values of a constant; nullptr when it is absent.
  template <class T>
  const T* constant(int32_t index) const {
    return index == kAbsent ? nullptr : reinterpret_cast<const T*>(weights + consts[static_cast<size_t>(index)].offset);
  }
  const Buffer& buffer(int32_t index) const { return buffers[static_cast<size_t>(index)]; }
};

static inline int32_t bytes_of(DType dtype) { return kDTypeBytes[static_cast<int32_t>(dtype)]; }

// ---- facts of a weight format

// Output rows that share one list of columns.
static inline int32_t rows_of(Format format) { return kFormatRows[static_cast<int32_t>(format)]; }

// Whether zeros are left out, so that there is a list of columns.
static inline bool is_sparse(Format format) { return kFormatIsSparse[static_cast<int32_t>(format)]; }

// Consecutive columns that one number of the list stands for.
static inline int32_t block_of(Format format) { return kFormatBlock[static_cast<int32_t>(format)]; }

// Numbers of the list that belong to one quad: four columns of a group with their weights, which for the 1x4 format is
// one block.
static inline int32_t numbers_of_quad(Format format) { return is_sparse(format) ? 4 / block_of(format) : 0; }

// Bytes of the mask of one group of `k` input channels, where columns are stored as masks: a bit for each block.
static inline size_t mask_bytes(Format format, int32_t k) {
  const size_t bits = static_cast<size_t>(k / block_of(format));
  return (bits + 7) / 8;
}

// Reads and validates the tables of a program blob; what each op needs of them is checked by check_ops
// (ops/definition.h). Both together are needed before anything runs: the blobs may come from anywhere.
int32_t parse_program(const void* blob, uint64_t blob_bytes, const void* weights, uint64_t weights_bytes,
                      Program* program);

}  // namespace oe
#endif
