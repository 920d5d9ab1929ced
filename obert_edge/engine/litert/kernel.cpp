#include "kernel.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

namespace oe {
namespace {

using litert::Context;
using litert::IntArray;
using litert::Node;
using litert::Tensor;

int32_t threads_of(const Context& context, const KernelOptions& options) {
  if (options.threads > 0) return options.threads;
  if (context.recommended_num_threads > 0) return context.recommended_num_threads;
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

// Copies indices of tensors the context has.
int32_t take_indices(const Context& context, const IntArray* from, int32_t least, int32_t most, int32_t* to) {
  if (!from || from->size < least || from->size > most) {
    return fail(OE_INVALID_INPUT, "the op has %d tensors where %d to %d were expected", from ? from->size : 0, least,
                most);
  }
  for (int32_t i = 0; i < from->size; ++i) {
    to[i] = from->data[i];
    if (to[i] < 0 || static_cast<size_t>(to[i]) >= context.tensors_size) {
      return fail(OE_INVALID_INPUT, "the op names tensor %d of %zu", to[i], context.tensors_size);
    }
  }
  return OE_OK;
}

}  // namespace

int32_t LitertKernel::open(const Context& context, const Node& node, const KernelOptions& options) {
  int32_t status = take_indices(context, node.inputs, kInputs, kInputs, inputs_);
  if (status == OE_OK) status = take_indices(context, node.outputs, 1, kMaxOutputs, outputs_);
  if (status != OE_OK) return status;
  n_outputs_ = node.outputs->size;
  const uint64_t bytes = node.custom_initial_data_size > 0 ? static_cast<uint64_t>(node.custom_initial_data_size) : 0;
  status = parse_capsule(node.custom_initial_data, bytes, &capsule_);
  if (status == OE_OK) status = open_weights();
  if (status != OE_OK) return status;
  model_ = oe_model_open(capsule_.program, capsule_.program_bytes, capsule_.weights, capsule_.weights_bytes,
                         threads_of(context, options), options.implementation[0] ? options.implementation : nullptr);
  if (!model_) return oe_last_status();
  if (oe_model_outputs(model_) != n_outputs_) {
    return fail(OE_INVALID_PROGRAM, "the op has %d outputs; its compiled graph has %d", n_outputs_,
                oe_model_outputs(model_));
  }
  return OE_OK;
}

// What is checked when the model is opened is read again in every run, and a mapped file may be written over meanwhile:
// so the weights, which hold indices too, are always copied. (A model given as bytes may lie anywhere besides.)
int32_t LitertKernel::open_weights() {
  if (capsule_.weights_bytes > SIZE_MAX || !weights_.reserve(static_cast<size_t>(capsule_.weights_bytes), true)) {
    return fail(OE_OUT_OF_MEMORY, "no memory for a copy of the weights");
  }
  if (capsule_.weights_bytes > 0) {
    memcpy(weights_.data(), capsule_.weights, static_cast<size_t>(capsule_.weights_bytes));
  }
  capsule_.weights = weights_.data();
  return OE_OK;
}

int32_t LitertKernel::input(const Context& context, int32_t number, const Tensor** found) const {
  static const char* const kNames[kInputs] = {"input_ids", "attention_mask", "token_type_ids"};
  const Tensor& tensor = context.tensors[inputs_[number]];
  if (tensor.type != litert::kInt32 && tensor.type != litert::kInt64) {
    return fail(OE_INVALID_INPUT, "%s has LiteRT's type %d; int32 or int64 was expected", kNames[number], tensor.type);
  }
  const IntArray* dims = tensor.dims;
  if (!dims || dims->size != 2) {
    return fail(OE_INVALID_INPUT, "%s has %d dimensions; [batch, sequence] was expected", kNames[number],
                dims ? dims->size : 0);
  }
  const IntArray* first = context.tensors[inputs_[0]].dims;
  if (dims->data[0] != first->data[0] || dims->data[1] != first->data[1]) {
    return fail(OE_INVALID_INPUT, "%s has shape [%d, %d]; input_ids has [%d, %d]", kNames[number], dims->data[0],
                dims->data[1], first->data[0], first->data[1]);
  }
  *found = &tensor;
  return OE_OK;
}

int32_t LitertKernel::reserve(int32_t rows, int32_t columns) {
  rows_ = 0;
  columns_ = 0;
  const int64_t room = oe_pack_room(rows, columns);
  if (room == 0) return oe_last_status();
  if (!room_.allocate(static_cast<size_t>(room))) {
    return fail(OE_OUT_OF_MEMORY, "no memory for a batch of shape [%d, %d]", rows, columns);
  }
  rows_ = rows;
  columns_ = columns;
  return OE_OK;
}

int32_t LitertKernel::prepare(Context* context) {
  const Tensor* tensor = nullptr;
  for (int32_t i = 0; i < kInputs; ++i) {
    const int32_t status = input(*context, i, &tensor);
    if (status != OE_OK) return status;
  }
  int32_t status = reserve(tensor->dims->data[0], tensor->dims->data[1]);
  for (int32_t i = 0; status == OE_OK && i < n_outputs_; ++i) {
    int32_t channels = 0;
    int32_t per_token = 0;
    status = oe_model_output(model_, i, &channels, &per_token);
    if (status != OE_OK) break;
    const bool squeezed = channels == 1 && (capsule_.squeezed >> i & 1);
    const int32_t shape[3] = {rows_, per_token ? columns_ : channels, channels};
    const int32_t rank = per_token && !squeezed ? 3 : 2;
    auto* dims = static_cast<IntArray*>(malloc(sizeof(int) * static_cast<size_t>(1 + rank)));
    if (!dims) return fail(OE_OUT_OF_MEMORY, "no memory for a shape");
    dims->size = rank;
    memcpy(dims->data, shape, sizeof(int) * static_cast<size_t>(rank));
    Tensor* output = &context->tensors[outputs_[i]];
    if (output->type != litert::kFloat32) {
      free(dims);
      return fail(OE_INVALID_INPUT, "output %d has LiteRT's type %d; float32 was expected", i, output->type);
    }
    if (context->ResizeTensor(context, output, dims) != litert::kOk) {
      return fail(OE_OUT_OF_MEMORY, "the interpreter refused the shape of output %d", i);
    }
  }
  return status;
}

int32_t LitertKernel::invoke(Context* context) {
  const void* inputs[kInputs] = {};
  int32_t bytes[kInputs] = {};  // of one value
  for (int32_t i = 0; i < kInputs; ++i) {
    const Tensor* tensor = nullptr;
    const int32_t status = input(*context, i, &tensor);
    if (status != OE_OK) return status;
    inputs[i] = tensor->data;
    bytes[i] = tensor->type == litert::kInt64 ? 8 : 4;
    const uint64_t places = static_cast<uint64_t>(rows_) * static_cast<uint64_t>(columns_);
    if (!tensor->data || tensor->dims->data[0] != rows_ || tensor->dims->data[1] != columns_ ||
        tensor->bytes != places * static_cast<uint64_t>(bytes[i])) {
      return fail(OE_INVALID_INPUT, "input %d is not the one that memory was allocated for", i);
    }
  }
  const oe_padded padded = {rows_, columns_, inputs[0], inputs[1], inputs[2], bytes[0], bytes[1], bytes[2]};
  oe_packed packed;
  int32_t status = oe_pack(&capsule_.rules, &padded, room_.data(), &packed);
  if (status != OE_OK) return status;
  float* results[kMaxOutputs];
  for (int32_t i = 0; i < n_outputs_; ++i) results[i] = static_cast<float*>(context->tensors[outputs_[i]].data);
  status = oe_model_run(model_, &packed.batch, results, n_outputs_);
  for (int32_t i = 0; status == OE_OK && i < n_outputs_; ++i) {
    int32_t channels = 0;
    int32_t per_token = 0;
    status = oe_model_output(model_, i, &channels, &per_token);
    if (per_token) oe_unpack(&packed, channels, results[i], results[i]);
  }
  return status;
}

}  // namespace oe
