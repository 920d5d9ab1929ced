#include "program/program.h"

#include <string.h>

#include "obert_edge.h"
#include "base/status.h"

namespace oe {
namespace {

struct Header {
  char magic[8];
  uint32_t version, buffers, consts, ops, max_positions, slots;
  uint8_t zero[32];
};
struct BufferRecord {
  uint32_t dtype, domain, channels, slot;
};
static_assert(sizeof(Header) == 64, "as bundle/program.py packs it");
static_assert(sizeof(BufferRecord) == 16, "as bundle/program.py packs it");
static_assert(sizeof(Const) == 16, "as bundle/program.py packs it");
static_assert(sizeof(Op) == 4 * (1 + kMaxInputs + kMaxOutputs + kMaxConsts + kMaxInts + kMaxFloats) + kNameBytes,
              "as bundle/program.py packs it");

constexpr char kMagic[8] = {'O', 'B', 'E', 'R', 'T', 'P', 'R', 'G'};
constexpr uint32_t kVersion = 1;

int32_t read_header(const uint8_t* blob, uint64_t bytes, Header* header) {
  if (bytes < sizeof(Header)) {
    return fail(OE_INVALID_PROGRAM, "the program has %llu bytes; its header alone takes %zu",
                static_cast<unsigned long long>(bytes), sizeof(Header));
  }
  memcpy(header, blob, sizeof *header);
  if (memcmp(header->magic, kMagic, sizeof kMagic) != 0) {
    return fail(OE_INVALID_PROGRAM, "the program does not start with OBERTPRG");
  }
  if (header->version != kVersion) {
    return fail(OE_INVALID_PROGRAM, "the program has version %u; this engine runs version %u", header->version,
                kVersion);
  }
  if (header->buffers > kMaxRecords || header->consts > kMaxRecords || header->ops > kMaxRecords) {
    return fail(OE_INVALID_PROGRAM, "the program declares %u buffers, %u constants and %u ops; the limit is %u of each",
                header->buffers, header->consts, header->ops, kMaxRecords);
  }
  const uint64_t expected = sizeof(Header) + uint64_t{header->buffers} * sizeof(BufferRecord) +
                            uint64_t{header->consts} * sizeof(Const) + uint64_t{header->ops} * sizeof(Op);
  if (bytes != expected) {
    return fail(OE_INVALID_PROGRAM, "the program has %llu bytes; its header implies %llu",
                static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(expected));
  }
  if (header->max_positions < 1 || header->max_positions > kMaxPositions) {
    return fail(OE_INVALID_PROGRAM, "max_positions is %u; it must be 1 to %u", header->max_positions, kMaxPositions);
  }
  return OE_OK;
}

int32_t read_buffers(const uint8_t* at, uint32_t slots, Array<Buffer>* buffers) {
  for (size_t i = 0; i < buffers->size(); ++i, at += sizeof(BufferRecord)) {
    BufferRecord record;
    memcpy(&record, at, sizeof record);
    const auto dtype = static_cast<int32_t>(record.dtype), domain = static_cast<int32_t>(record.domain);
    if (dtype < kFirstDType || dtype > kLastDType) {
      return fail(OE_INVALID_PROGRAM, "buffer %zu has dtype %u; it must be 1 (U8), 2 (S8) or 3 (F32)", i, record.dtype);
    }
    if (domain < kFirstDomain || domain > kLastDomain) {
      return fail(OE_INVALID_PROGRAM, "buffer %zu has domain %u; it must be 0 (tokens) or 1 (sequences)", i,
                  record.domain);
    }
    if (record.channels < 1 || record.channels > kMaxChannels) {
      return fail(OE_INVALID_PROGRAM, "buffer %zu has %u channels; it must have 1 to %u", i, record.channels,
                  kMaxChannels);
    }
    if (record.slot >= slots) {
      return fail(OE_INVALID_PROGRAM, "buffer %zu is in slot %u; the program has %u slots", i, record.slot, slots);
    }
    (*buffers)[i] = {static_cast<DType>(record.dtype), static_cast<Domain>(record.domain), record.channels,
                     record.slot};
  }
  return OE_OK;
}

int32_t read_consts(const uint8_t* at, uint64_t weights_bytes, Array<Const>* consts) {
  for (size_t i = 0; i < consts->size(); ++i, at += sizeof(Const)) {
    Const& constant = (*consts)[i];
    memcpy(&constant, at, sizeof constant);
    if (constant.offset % 64 != 0) {
      return fail(OE_INVALID_PROGRAM, "constant %zu is at offset %llu, which is not a multiple of 64", i,
                  static_cast<unsigned long long>(constant.offset));
    }
    if (constant.offset > weights_bytes || constant.bytes > weights_bytes - constant.offset) {
      return fail(OE_INVALID_PROGRAM, "constant %zu spans %llu bytes at %llu; the weights have %llu bytes", i,
                  static_cast<unsigned long long>(constant.bytes), static_cast<unsigned long long>(constant.offset),
                  static_cast<unsigned long long>(weights_bytes));
    }
  }
  return OE_OK;
}

// Whether a name can be shown: names end up in messages and on terminals.
bool printable(const char (&name)[kNameBytes]) {
  bool ended = false;
  for (const char c : name) {
    ended = ended || c == '\0';
    if (ended ? c != '\0' : c < ' ' || c > '~') return false;
  }
  return ended;
}

int32_t read_ops(const uint8_t* at, Program* program) {
  size_t outputs = 0;
  for (size_t i = 0; i < program->ops.size(); ++i, at += sizeof(Op)) {
    Op& op = program->ops[i];
    memcpy(&op, at, sizeof op);
    if (!printable(op.name)) return fail(OE_INVALID_PROGRAM, "the name of op %zu is not printable ASCII", i);
    const uint32_t kind = static_cast<uint32_t>(op.kind);
    if (kind < kFirstOpKind || kind > kLastOpKind) {
      return fail(OE_INVALID_PROGRAM, "op %zu is of kind %u; this engine knows %u to %u", i, kind, kFirstOpKind,
                  kLastOpKind);
    }
    outputs += op.kind == OpKind::Output;
  }
  if (!program->outputs.allocate(outputs)) return fail(OE_OUT_OF_MEMORY, "no memory for the program");
  size_t next = 0;
  for (size_t i = 0; i < program->ops.size(); ++i) {
    if (program->ops[i].kind == OpKind::Output) program->outputs[next++] = static_cast<int32_t>(i);
  }
  return OE_OK;
}

}  // namespace

int32_t parse_program(const void* blob, uint64_t blob_bytes, const void* weights, uint64_t weights_bytes,
                      Program* program) {
  if (!blob) return fail(OE_INVALID_PROGRAM, "there is no program");
  if (!weights && weights_bytes) return fail(OE_INVALID_PROGRAM, "there are no weights");
  if (weights_bytes && reinterpret_cast<uintptr_t>(weights) % 64 != 0) {
    return fail(OE_INVALID_PROGRAM, "the weights are not at a 64-byte aligned address");
  }
  const uint8_t* at = static_cast<const uint8_t*>(blob);
  Header header;
  int32_t status = read_header(at, blob_bytes, &header);
  if (status != OE_OK) return status;
  if (!program->buffers.allocate(header.buffers) || !program->consts.allocate(header.consts) ||
      !program->ops.allocate(header.ops)) {
    return fail(OE_OUT_OF_MEMORY, "no memory for the program");
  }
  if (header.slots > header.buffers) {
    return fail(OE_INVALID_PROGRAM, "the program has %u slots for %u buffers", header.slots, header.buffers);
  }
  program->max_positions = header.max_positions;
  program->slots = header.slots;
  program->weights = static_cast<const uint8_t*>(weights);
  program->weights_bytes = weights_bytes;

  at += sizeof(Header);
  if ((status = read_buffers(at, header.slots, &program->buffers)) != OE_OK) return status;
  at += header.buffers * sizeof(BufferRecord);
  if ((status = read_consts(at, weights_bytes, &program->consts)) != OE_OK) return status;
  at += header.consts * sizeof(Const);
  return read_ops(at, program);
}

}  // namespace oe
