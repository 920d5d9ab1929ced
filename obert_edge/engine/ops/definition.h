// What the engine has to know of a kind of op. Each op's file defines one of these; the table of all kinds
// (registry.cpp) is made of the op schema, so a new op needs its row there and its file here.
#ifndef OBERT_EDGE_DEFINITION_H
#define OBERT_EDGE_DEFINITION_H

#include <stddef.h>
#include <stdint.h>

#include "exec/run.h"
#include "obert_edge.h"
#include "program/dataflow.h"
#include "program/op_check.h"

namespace oe {

// Functions that an op has no use for are nullptr, except `check` and `run`.
struct OpDefinition {
  // Checks the record against its buffers and constants, when a program is opened. After OE_OK the kernels can run it
  // on buffers of the declared sizes, for any valid batch, without leaving a buffer or a constant.
  int32_t (*check)(const OpCheck& check) = nullptr;

  // Checks which ops wrote its inputs, for an op that cannot take just any values.
  int32_t (*check_sources)(const OpCheck& check, const Dataflow& dataflow) = nullptr;

  // Checks what it takes of the caller's batch, before each run.
  int32_t (*check_batch)(const Op& op, const oe_batch& batch) = nullptr;

  // Bytes of scratch memory that every thread needs for the batch at hand.
  size_t (*scratch)(const Run& run, int32_t op) = nullptr;

  // Computes ops [op, op + count) for the whole batch, on all threads. `count` is 1 unless it has `joins`.
  void (*run)(const Run& run, int32_t op, int32_t count) = nullptr;

  // Computes one panel of tokens, on the calling thread. Ops that have it can be chained panel by panel: they read and
  // write no token outside the panel.
  void (*run_panel)(const Run& run, int32_t op, int32_t panel, int32_t thread) = nullptr;

  // Whether `next` may be computed in the same `run` as `op`, given that neither writes what the other uses.
  bool (*joins)(const Op& op, const Op& next) = nullptr;

  // How the time of a `run` of several ops is shared out among them; needed with `joins`.
  uint64_t (*work)(const Run& run, int32_t op) = nullptr;

  // Whether it can be run by itself on buffers of the caller (oe_model_run_op).
  bool runs_alone = true;
};

#define OE_DECLARE(Name) extern const OpDefinition k##Name##Definition;
OE_FOR_EACH_OP(OE_DECLARE)
#undef OE_DECLARE

const OpDefinition& definition_of(const Op& op);

// Checks every op of a parsed program (OpDefinition::check).
int32_t check_ops(const Program& program);

// Checks that every op reads what an earlier op wrote and nothing has overwritten since, as a whole run needs.
int32_t check_dataflow(const Program& program);

}  // namespace oe
#endif
