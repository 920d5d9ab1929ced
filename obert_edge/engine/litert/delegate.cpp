// LiteRT's external delegate: `load_delegate("libobert_edge.so")` in Python. It takes every op `obert_edge.encoder`
// of a model and leaves the rest.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <new>

#include "obert_edge.h"
#include "base/status.h"
#include "abi.h"
#include "kernel.h"

namespace {

using litert::Context;
using litert::Delegate;
using litert::DelegateParams;
using litert::IntArray;
using litert::Node;
using litert::Registration;
using litert::Status;
using oe::KernelOptions;
using oe::LitertKernel;

constexpr char kOp[] = "obert_edge.encoder";

Status report(Context* context, int32_t status) {
  if (status == OE_OK) return litert::kOk;
  context->ReportError(context, "obert-edge: %s\n", oe_last_error());
  return litert::kError;
}

bool is_ours(const Registration* registration) {
  return registration->builtin_code == litert::kCustom && registration->custom_name &&
         strcmp(registration->custom_name, kOp) == 0;
}

void free_kernel(Context*, void* kernel) {
  if (!kernel) return;
  static_cast<LitertKernel*>(kernel)->~LitertKernel();
  free(kernel);
}

// Null when it fails; what to return for that has changed between versions, so `prepare` fails on it.
void* create_kernel(Context* context, const char* buffer, size_t) {
  const auto* params = reinterpret_cast<const DelegateParams*>(buffer);
  if (params->nodes_to_replace->size != 1) {
    context->ReportError(context, "obert-edge: %d ops in a row are obert_edge.encoder; one was expected\n",
                         params->nodes_to_replace->size);
    return nullptr;
  }
  Node* node = nullptr;
  Registration* registration = nullptr;
  const int index = params->nodes_to_replace->data[0];
  if (context->GetNodeAndRegistration(context, index, &node, &registration) != litert::kOk) return nullptr;
  void* block = malloc(sizeof(LitertKernel));  // not operator new: that is libc++'s, which is not linked
  if (!block) {
    context->ReportError(context, "obert-edge: no memory for the model\n");
    return nullptr;
  }
  auto* kernel = new (block) LitertKernel;
  const auto* options = static_cast<const KernelOptions*>(params->delegate->data_);
  if (report(context, kernel->open(*context, *node, *options)) == litert::kOk) return kernel;
  free_kernel(context, kernel);
  return nullptr;
}

Status prepare_kernel(Context* context, Node* node) {
  if (!node->user_data) return litert::kError;  // said by create_kernel
  return report(context, static_cast<LitertKernel*>(node->user_data)->prepare(context));
}

Status invoke_kernel(Context* context, Node* node) {
  if (!node->user_data) return litert::kError;
  return report(context, static_cast<LitertKernel*>(node->user_data)->invoke(context));
}

Status prepare_delegate(Context* context, Delegate* delegate) {
  IntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != litert::kOk) return litert::kError;
  const size_t bytes = sizeof(int) * (static_cast<size_t>(plan->size) + 1);
  auto* ours = static_cast<IntArray*>(malloc(bytes));
  if (!ours) return litert::kError;
  ours->size = 0;
  for (int i = 0; i < plan->size; ++i) {
    Node* node = nullptr;
    Registration* registration = nullptr;
    const int index = plan->data[i];
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != litert::kOk) {
      free(ours);
      return litert::kError;
    }
    if (is_ours(registration)) ours->data[ours->size++] = index;
  }
  Status status = litert::kError;
  if (ours->size == 0) {
    // Silence would leave people with a model that is not accelerated.
    context->ReportError(context,
                         "obert-edge: none of the model's %d ops is %s; give the file that `obert-edge build --tflite` "
                         "named *.obert-edge.tflite\n",
                         plan->size, kOp);
  } else {
    Registration registration = {};
    registration.init = create_kernel;
    registration.free = free_kernel;
    registration.prepare = prepare_kernel;
    registration.invoke = invoke_kernel;
    registration.builtin_code = litert::kDelegate;
    registration.custom_name = "obert-edge";
    registration.version = 1;
    status = context->ReplaceNodeSubsetsWithDelegateKernels(context, registration, ours, delegate);
  }
  free(ours);
  return status;
}

// One option of load_delegate(library, options).
int32_t take_option(const char* key, const char* value, KernelOptions* options) {
  if (strcmp(key, "threads") == 0) {
    char* end = nullptr;
    const long threads = strtol(value, &end, 10);
    if (end == value || *end || threads < 1 || threads > 1024) {
      return oe::fail(OE_INVALID_INPUT, "the option threads is '%.64s'; a number from 1 to 1024 was expected", value);
    }
    options->threads = static_cast<int32_t>(threads);
    return OE_OK;
  }
  if (strcmp(key, "implementation") == 0) {
    if (snprintf(options->implementation, sizeof options->implementation, "%s", value) >=
        static_cast<int>(sizeof options->implementation)) {
      return oe::fail(OE_INVALID_INPUT, "the option implementation is '%.64s'; this CPU and library can run: %s", value,
                      oe_implementations());
    }
    return OE_OK;
  }
  return oe::fail(OE_INVALID_INPUT, "there is no option '%.64s'; options are threads and implementation", key);
}

}  // namespace

// tensorflow/lite/delegates/external/external_delegate_interface.h
extern "C" {

OE_API Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t count,
                                               void (*report_error)(const char*)) {
  // One block: the delegate, then its options.
  struct Plugin {
    Delegate delegate;
    KernelOptions options;
  };
  const auto refuse = [&](const char* message) -> Delegate* {
    if (report_error) report_error(message);
    return nullptr;
  };
  void* block = calloc(1, sizeof(Plugin));
  if (!block) return refuse("no memory for the delegate");
  auto* plugin = new (block) Plugin{};
  for (size_t i = 0; i < count; ++i) {
    if (take_option(keys[i], values[i], &plugin->options) == OE_OK) continue;
    free(plugin);
    return refuse(oe_last_error());
  }
  plugin->delegate.data_ = &plugin->options;
  plugin->delegate.Prepare = prepare_delegate;
  // Without it the interpreter prepares every op before it asks delegates, and ours cannot be without this delegate.
  plugin->delegate.flags = litert::kAllowDynamicTensors;
  return &plugin->delegate;
}

OE_API void tflite_plugin_destroy_delegate(Delegate* delegate) { free(delegate); }

}  // extern "C"
