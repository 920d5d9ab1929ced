// The C ABI (obert_edge.h): checks what the caller gives, then calls the executor.
#include "obert_edge.h"

#include <stdlib.h>

#include <new>

#include "kernels/cpu_features.h"
#include "base/crc32.h"
#include "exec/executor.h"
#include "exec/float_mode.h"
#include "exec/padded.h"
#include "kernels/implementations.h"
#include "ops/definition.h"
#include "program/program.h"
#include "base/status.h"

namespace {

using oe::fail;

constexpr int32_t kMaxThreads = 1024;
constexpr int32_t kMaxTokens = 1 << 28;

}  // namespace

struct oe_model {
  explicit oe_model(const oe::Implementation& chosen) : implementation(chosen), executor(program, chosen) {}

  oe::Program program;
  const oe::Implementation& implementation;
  oe::Executor executor;
  bool runnable = false;  // as a whole; single ops can be run of any valid program
};

namespace {

int32_t check_starts(const oe::Program& program, const oe_batch& batch) {
  if (batch.sequences < 1) return fail(OE_INVALID_INPUT, "the batch has %d sequences; it needs one", batch.sequences);
  if (!batch.starts) return fail(OE_INVALID_INPUT, "the batch has no starts");
  if (batch.tokens < 1 || batch.tokens > kMaxTokens) {
    return fail(OE_INVALID_INPUT, "the batch has %d tokens; it must have 1 to %d", batch.tokens, kMaxTokens);
  }
  if (batch.starts[0] != 0) return fail(OE_INVALID_INPUT, "starts[0] is %d; it must be 0", batch.starts[0]);
  for (int32_t s = 0; s < batch.sequences; ++s) {
    const int64_t length = int64_t{batch.starts[s + 1]} - batch.starts[s];
    if (length < 1) return fail(OE_INVALID_INPUT, "sequence %d is empty", s);
    if (length > program.max_positions) {
      return fail(OE_INVALID_INPUT, "sequence %d has %lld tokens; the model takes at most %u", s,
                  static_cast<long long>(length), program.max_positions);
    }
  }
  if (batch.starts[batch.sequences] != batch.tokens) {
    return fail(OE_INVALID_INPUT, "the last start is %d; the batch has %d tokens", batch.starts[batch.sequences],
                batch.tokens);
  }
  return OE_OK;
}

// Checks the batch against the ops [first, last) of the program.
int32_t check_batch(const oe::Program& program, const oe_batch* batch, size_t first, size_t last) {
  if (!batch) return fail(OE_INVALID_INPUT, "there is no batch");
  int32_t status = check_starts(program, *batch);
  for (size_t i = first; status == OE_OK && i < last; ++i) {
    const auto check = oe::definition_of(program.ops[i]).check_batch;
    if (check) status = check(program.ops[i], *batch);
  }
  return status;
}

int32_t check_op_buffers(const oe::Program& program, const oe::Op& op, void* const* buffers) {
  const auto check = [&](int32_t index) {
    if (index == oe::kAbsent) return int32_t{OE_OK};
    const void* buffer = buffers[index];
    if (buffer && reinterpret_cast<uintptr_t>(buffer) % 64 == 0) return int32_t{OE_OK};
    return fail(OE_INVALID_INPUT, "buffer %d of %zu is %s", index, program.buffers.size(),
                buffer ? "not 64-byte aligned" : "missing");
  };
  for (const int32_t input : op.inputs) {
    const int32_t status = check(input);
    if (status != OE_OK) return status;
  }
  for (const int32_t output : op.outputs) {
    const int32_t status = check(output);
    if (status != OE_OK) return status;
  }
  return OE_OK;
}

}  // namespace

extern "C" {

int32_t oe_abi_version(void) { return OE_ABI_VERSION; }

const char* oe_last_error(void) { return oe::last_error(); }

const char* oe_last_hint(void) { return oe::last_hint(); }

int32_t oe_last_status(void) { return oe::last_status(); }

const char* oe_implementations(void) { return oe::implementation_names(); }

oe_model* oe_model_open(const void* program, uint64_t program_bytes, const void* weights, uint64_t weights_bytes,
                        int32_t threads, const char* implementation) {
  if (threads < 1 || threads > kMaxThreads) {
    fail(OE_INVALID_INPUT, "threads is %d; it must be 1 to %d", threads, kMaxThreads);
    return nullptr;
  }
  const oe::Implementation* chosen = nullptr;
  if (oe::select_implementation(implementation, &chosen) != OE_OK) return nullptr;
  void* block = nullptr;  // not operator new: that is libc++'s, which is not linked
  if (posix_memalign(&block, alignof(oe_model), sizeof(oe_model)) != 0) {
    fail(OE_OUT_OF_MEMORY, "no memory for the model");
    return nullptr;
  }
  const oe::FloatMode float_mode;  // what is decided of the weights' floats must not depend on the caller's mode
  oe_model* model = new (block) oe_model(*chosen);
  if (oe::parse_program(program, program_bytes, weights, weights_bytes, &model->program) != OE_OK ||
      oe::check_ops(model->program) != OE_OK || model->executor.start(threads) != OE_OK) {
    oe_model_close(model);
    return nullptr;
  }
  model->runnable = oe::check_dataflow(model->program) == OE_OK;
  return model;
}

void oe_model_close(oe_model* model) {
  if (!model) return;
  model->~oe_model();
  free(model);
}

const char* oe_model_implementation(const oe_model* model) { return model->implementation.name; }

void oe_model_set_cache(oe_model* model, uint64_t bytes) { model->executor.set_cache(bytes); }

int32_t oe_model_run(oe_model* model, const oe_batch* batch, float* const* outputs, int32_t n_outputs) {
  return oe_model_run_polled(model, batch, outputs, n_outputs, nullptr, nullptr);
}

int32_t oe_model_run_polled(oe_model* model, const oe_batch* batch, float* const* outputs, int32_t n_outputs,
                            int32_t (*poll)(void* context), void* context) {
  const oe::Program& program = model->program;
  if (!model->runnable) return oe::check_dataflow(program);
  int32_t status = check_batch(program, batch, 0, program.ops.size());
  if (status != OE_OK) return status;
  if (!outputs || n_outputs < 0 || static_cast<size_t>(n_outputs) != program.outputs.size()) {
    return fail(OE_INVALID_INPUT, "%d output arrays were given; the program has %zu outputs", n_outputs,
                program.outputs.size());
  }
  for (int32_t i = 0; i < n_outputs; ++i) {
    if (!outputs[i]) return fail(OE_INVALID_INPUT, "output array %d is missing", i);
  }
  return model->executor.run(*batch, outputs, poll, context);
}

int32_t oe_model_outputs(const oe_model* model) { return static_cast<int32_t>(model->program.outputs.size()); }

int32_t oe_model_output(const oe_model* model, int32_t index, int32_t* channels, int32_t* per_token) {
  const oe::Program& program = model->program;
  if (index < 0 || static_cast<size_t>(index) >= program.outputs.size()) {
    return fail(OE_INVALID_INPUT, "there is no result %d; the program has %zu", index, program.outputs.size());
  }
  const oe::Op& op = program.ops[static_cast<size_t>(program.outputs[static_cast<size_t>(index)])];
  const oe::OutputFields output = oe::output_fields(op);
  *channels = output.channels;
  *per_token = program.buffer(output.input).domain == oe::Domain::Tokens;
  return OE_OK;
}

void oe_model_trim(oe_model* model) { model->executor.trim(); }

uint64_t oe_model_arena_bytes(const oe_model* model) { return model->executor.arena_bytes(); }

int32_t oe_model_profile(oe_model* model, int32_t enable) {
  model->executor.profile().enable(enable != 0);
  return OE_OK;
}

int32_t oe_model_profile_read(const oe_model* model, uint64_t* nanoseconds, int32_t n_ops, uint64_t* runs) {
  const oe::Array<uint64_t>& times = model->executor.profile().nanoseconds();
  if (n_ops < 0 || static_cast<size_t>(n_ops) != times.size()) {
    return fail(OE_INVALID_INPUT, "room for %d times was given; the program has %zu ops", n_ops, times.size());
  }
  for (size_t i = 0; i < times.size(); ++i) nanoseconds[i] = times[i];
  if (runs) *runs = model->executor.profile().runs();
  return OE_OK;
}

int32_t oe_model_run_op(oe_model* model, int32_t index, const oe_batch* batch, void* const* buffers, int32_t repeats,
                        uint64_t* nanoseconds) {
  const oe::Program& program = model->program;
  if (index < 0 || static_cast<size_t>(index) >= program.ops.size()) {
    return fail(OE_INVALID_INPUT, "there is no op %d; the program has %zu", index, program.ops.size());
  }
  const oe::Op& op = program.ops[static_cast<size_t>(index)];
  if (!oe::definition_of(op).runs_alone) {
    return fail(OE_INVALID_INPUT, "op %d is an output, which does not run alone", index);
  }
  if (!buffers || repeats < 1) return fail(OE_INVALID_INPUT, "there are no buffers, or %d repeats", repeats);
  const size_t at = static_cast<size_t>(index);
  int32_t status = check_batch(program, batch, at, at + 1);
  if (status == OE_OK) status = check_op_buffers(program, op, buffers);
  if (status != OE_OK) return status;
  return model->executor.run_op(index, *batch, buffers, repeats, nanoseconds);
}

int64_t oe_pack_room(int64_t rows, int64_t columns) { return oe::pack_room(rows, columns); }

int32_t oe_pack(const oe_input_rules* rules, const oe_padded* padded, int32_t* room, oe_packed* packed) {
  return oe::pack(*rules, *padded, room, packed);
}

void oe_unpack(const oe_packed* packed, int32_t channels, const float* rows, float* padded) {
  oe::unpack(*packed, channels, rows, padded);
}

void oe_count_positions(const oe_input_rules* rules, int32_t sequences, const int32_t* starts, int32_t* positions) {
  oe::count_positions(*rules, sequences, starts, positions);
}

int32_t oe_crc32(const void* data, uint64_t bytes, uint32_t* crc) {
  if (!oe::crc32 || !oe::cpu_features().crc32) return fail(OE_UNSUPPORTED, "this CPU has no instructions for CRC-32");
  *crc = oe::crc32(static_cast<const uint8_t*>(data), static_cast<size_t>(bytes));
  return OE_OK;
}

}  // extern "C"
