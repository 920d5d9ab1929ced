// One op `obert_edge.encoder` of a .tflite, run by this engine.
#ifndef OBERT_EDGE_LITERT_KERNEL_H
#define OBERT_EDGE_LITERT_KERNEL_H

#include "capsule.h"
#include "base/array.h"
#include "base/memory.h"
#include "obert_edge.h"
#include "abi.h"

namespace oe {

// How the op computes.
struct KernelOptions {
  int32_t threads = 0;           // 0: as many as the interpreter recommends, else as this process may use
  char implementation[32] = "";  // "": $OBERT_EDGE_IMPLEMENTATION, else the best
};

class LitertKernel {
 public:
  LitertKernel() = default;
  LitertKernel(const LitertKernel&) = delete;
  LitertKernel& operator=(const LitertKernel&) = delete;
  ~LitertKernel() { oe_model_close(model_); }

  // Opens the compiled graph in the op's options. They stay the interpreter's, which outlives this.
  int32_t open(const litert::Context& context, const litert::Node& node, const KernelOptions& options);

  // Takes the shapes of the inputs and gives the outputs theirs.
  int32_t prepare(litert::Context* context);

  int32_t invoke(litert::Context* context);

 private:
  static constexpr int32_t kInputs = 3;  // input_ids, attention_mask, token_type_ids
  static constexpr int32_t kMaxOutputs = 32;

  int32_t open_weights();
  // Room for padded inputs of this shape.
  int32_t reserve(int32_t rows, int32_t columns);
  int32_t input(const litert::Context& context, int32_t number, const litert::Tensor** tensor) const;

  Capsule capsule_;
  Memory weights_;  // a copy: see open_weights
  oe_model* model_ = nullptr;
  int32_t rows_ = 0, columns_ = 0;  // of the padded inputs
  Array<int32_t> room_;             // of the packed batch
  // Indices of tensors: those of the op. A delegate's node lists the same ones in another order.
  int32_t inputs_[kInputs] = {};
  int32_t outputs_[kMaxOutputs] = {};
  int32_t n_outputs_ = 0;
};

}  // namespace oe
#endif
