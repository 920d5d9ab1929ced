// The table of all kinds of ops, and the checks that ask it.
#include "ops/definition.h"

namespace oe {
namespace {

#define OE_ADDRESS(Name) &k##Name##Definition,
const OpDefinition* const kDefinitions[] = {OE_FOR_EACH_OP(OE_ADDRESS)};
#undef OE_ADDRESS

}  // namespace

const OpDefinition& definition_of(const Op& op) { return *kDefinitions[static_cast<uint32_t>(op.kind) - kFirstOpKind]; }

int32_t check_ops(const Program& program) {
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const OpCheck check(program, i);
    OE_CHECK(definition_of(check.op).check(check));
    OE_CHECK(check.places());  // after the op's own checks, which say what a field is called
  }
  return OE_OK;
}

int32_t check_dataflow(const Program& program) {
  if (program.outputs.size() == 0) return fail(OE_INVALID_PROGRAM, "the program has no output");
  Dataflow dataflow(program);
  OE_CHECK(dataflow.start());
  for (size_t i = 0; i < program.ops.size(); ++i) {
    OE_CHECK(dataflow.read(i));
    const OpCheck check(program, i);
    const OpDefinition& definition = definition_of(check.op);
    if (definition.check_sources) OE_CHECK(definition.check_sources(check, dataflow));
    dataflow.write(i);
  }
  return OE_OK;
}

}  // namespace oe
