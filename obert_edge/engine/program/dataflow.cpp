// Checks that the ops of a program, run in order, read only what earlier ops left for them in the arena.
#include "obert_edge.h"
#include "program/program.h"
#include "base/status.h"

namespace oe {
namespace {

struct Owner {
  int32_t buffer;  // the buffer whose values a slot holds now, or kAbsent
  int32_t writer;  // the op that wrote them
};

class Dataflow {
 public:
  explicit Dataflow(const Program& program) : program_(program) {}

  int32_t run() {
    if (!slots_.allocate(program_.slots)) return fail(OE_OUT_OF_MEMORY, "no memory to check the program");
    for (Owner& owner : slots_) owner = {kAbsent, kAbsent};
    if (program_.outputs.size() == 0) return fail(OE_INVALID_PROGRAM, "the program has no output");
    for (size_t i = 0; i < program_.ops.size(); ++i) {
      const Op& op = program_.ops[i];
      for (const int32_t input : op.inputs) {
        const int32_t status = read(i, input);
        if (status != OE_OK) return status;
      }
      if (op.kind == OpKind::Linear && op.inputs[linear_op::kParams] != kAbsent) {
        const int32_t status = per_token(i);
        if (status != OE_OK) return status;
      }
      for (const int32_t output : op.outputs) {
        if (output != kAbsent) owner_of(output) = {output, static_cast<int32_t>(i)};
      }
    }
    return OE_OK;
  }

 private:
  Owner& owner_of(int32_t buffer) { return slots_[program_.buffers[static_cast<size_t>(buffer)].slot]; }

  int32_t read(size_t index, int32_t buffer) {
    if (buffer == kAbsent || owner_of(buffer).buffer == buffer) return OE_OK;
    const char* name = program_.ops[index].name;
    const int32_t holder = owner_of(buffer).buffer;
    if (holder == kAbsent) {
      return fail(OE_INVALID_PROGRAM, "op %zu (%s): it reads buffer %d, which no earlier op writes", index, name,
                  buffer);
    }
    return fail(OE_INVALID_PROGRAM, "op %zu (%s): it reads buffer %d, whose slot holds buffer %d by then", index, name,
                buffer, holder);
  }

  // The zero points of a per-token linear must be the ones its input was quantized with: any other float could
  // lie outside int32.
  int32_t per_token(size_t index) {
    const Op& op = program_.ops[index];
    const int32_t writer = owner_of(op.inputs[linear_op::kParams]).writer;
    if (writer == owner_of(op.inputs[linear_op::kInput]).writer &&
        program_.ops[static_cast<size_t>(writer)].kind == OpKind::QuantizeDynamic) {
      return OE_OK;
    }
    return fail(OE_INVALID_PROGRAM, "op %zu (%s): its params do not come from the op that quantized its input", index,
                op.name);
  }

  const Program& program_;
  Array<Owner> slots_;
};

}  // namespace

int32_t validate_dataflow(const Program& program) { return Dataflow(program).run(); }

}  // namespace oe
