// The part of LiteRT's external delegate ABI that this delegate uses, declared here because no wheel ships headers.
//
// From tflite/core/c/common.h of LiteRT (01d971c5, 2026) and tensorflow/lite/core/c/common.h of TensorFlow 2.14:
// the fields below lie at the same places in both ("semi-ABI stable": fields are only ever appended). No function
// of the runtime is called by name (LiteRT's wheels export none), only through the context. Not used, because it
// did change: TfLiteFloatArray, and so quantization. What the declarations do not name is `reserved`.
#ifndef OBERT_EDGE_LITERT_ABI_H
#define OBERT_EDGE_LITERT_ABI_H

#include <stddef.h>
#include <stdint.h>

extern "C" {

// In LiteRT these have a prefix TfLite.
namespace litert {

enum Status : int { kOk = 0, kError = 1 };
enum Type : int { kFloat32 = 1, kInt32 = 2, kInt64 = 4 };
enum BuiltinOperator : int32_t { kCustom = 32, kDelegate = 51 };
enum DelegateFlags : int64_t { kAllowDynamicTensors = 1 };

struct Context;
struct Delegate;

// From malloc: whoever it is given to frees it.
struct IntArray {
  int size;
  int data[1];  // in truth `size` of them
};

struct Quantization {
  int type;
  void* params;
};

struct Tensor {
  Type type;
  void* data;
  IntArray* dims;
  float scale;
  int32_t zero_point;
  int allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  Delegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  Quantization quantization;
  void* sparsity;
  const IntArray* dims_signature;
};
// Tensors lie in an array, so their size counts too.
static_assert(sizeof(Tensor) == (sizeof(void*) == 8 ? 112 : 64), "as both runtimes have it");

struct Node {
  IntArray* inputs;
  IntArray* outputs;
  IntArray* intermediates;
  IntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  // more
};

// Passed by value. 64-bit ABIs pass it in memory, where fields appended later are read as zero. The 32-bit ARM ABI
// lays out the arguments behind it by its size and alignment, so there it ends as in tflite-runtime 2.14, the last
// runtime for 32-bit ARM.
struct Registration {
  void* (*init)(Context* context, const char* buffer, size_t length);
  void (*free)(Context* context, void* buffer);
  Status (*prepare)(Context* context, Node* node);
  Status (*invoke)(Context* context, Node* node);
  const char* (*profiling_string)(const Context* context, const Node* node);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
#if !defined(__arm__)
  uint64_t reserved[4];
#endif
};

struct DelegateParams {
  Delegate* delegate;
  IntArray* nodes_to_replace;
  IntArray* input_tensors;
  IntArray* output_tensors;
};

struct Context {
  size_t tensors_size;
  Status (*GetExecutionPlan)(Context* context, IntArray** execution_plan);
  Tensor* tensors;
  void* impl_;
  Status (*ResizeTensor)(Context* context, Tensor* tensor, IntArray* new_size);
  void (*ReportError)(Context* context, const char* message, ...);
  Status (*AddTensors)(Context* context, int tensors_to_add, int* first_new_tensor_index);
  Status (*GetNodeAndRegistration)(Context* context, int node_index, Node** node, Registration** registration);
  Status (*ReplaceNodeSubsetsWithDelegateKernels)(Context* context, Registration registration,
                                                  const IntArray* nodes_to_replace, Delegate* delegate);
  int recommended_num_threads;
  // more
};

struct Delegate {
  void* data_;
  Status (*Prepare)(Context* context, Delegate* delegate);
  void* copy_from_buffer_handle;
  void* copy_to_buffer_handle;
  void* free_buffer_handle;
  int64_t flags;
  void* opaque_delegate_builder;
  void* reserved[4];
};

}  // namespace litert
}
#endif
