// What each op hands to its kernel: addresses of its buffers and constants, and its numbers.
#include "exec/executor.h"

namespace oe {

EmbedArgs Executor::embed_args(const Op& op) const {
  using namespace embed_op;
  EmbedArgs args = {};
  args.ids = batch_.ids;
  args.positions = batch_.positions;
  args.token_types = batch_.token_types;
  args.word = program_.constant<int8_t>(op.consts[kWord]);
  args.word_group_scale = program_.constant<int8_t>(op.consts[kWordGroupScale]);
  args.word_scale = program_.constant<float>(op.consts[kWordScale]);
  args.position = program_.constant<int8_t>(op.consts[kPosition]);
  args.position_scale = program_.constant<float>(op.consts[kPositionScale]);
  args.token_type = program_.constant<int8_t>(op.consts[kTokenType]);
  args.token_type_scale = args.token_type ? program_.constant<float>(op.consts[kTokenTypeScale]) : nullptr;
  args.output = buffer<float>(op.outputs[0]);
  args.tokens = batch_.tokens;
  args.channels = op.ints[kChannels];
  return args;
}

LayerNormArgs Executor::layer_norm_args(const Op& op) const {
  using namespace layer_norm_op;
  LayerNormArgs args = {};
  args.input = buffer<float>(op.inputs[0]);
  args.output = buffer<float>(op.outputs[kOutput]);
  args.quantized = buffer<uint8_t>(op.outputs[kQuantized]);
  args.gamma = program_.constant<float>(op.consts[kGamma]);
  args.beta = program_.constant<float>(op.consts[kBeta]);
  args.tokens = columns_of(program_.buffers[static_cast<size_t>(op.inputs[0])]);
  args.channels = op.ints[kChannels];
  args.zero_point = op.ints[kZeroPoint];
  args.epsilon = op.floats[kEpsilon];
  args.inv_scale = op.floats[kInvScale];
  return args;
}

QuantizeArgs Executor::quantize_args(const Op& op) const {
  using namespace quantize_op;
  QuantizeArgs args = {};
  args.input = buffer<float>(op.inputs[0]);
  args.output = buffer<uint8_t>(op.outputs[kOutput]);
  args.params = op.kind == OpKind::QuantizeDynamic ? buffer<float>(op.outputs[kParams]) : nullptr;
  args.tokens = columns_of(program_.buffers[static_cast<size_t>(op.inputs[0])]);
  args.channels = op.ints[kChannels];
  args.zero_point = op.ints[kZeroPoint];
  args.inv_scale = op.floats[kInvScale];
  return args;
}

LinearArgs Executor::linear_args(const Op& op) const {
  using namespace linear_op;
  const Buffer& output = program_.buffers[static_cast<size_t>(op.outputs[0])];
  LinearArgs args = {};
  args.input = buffer<uint8_t>(op.inputs[kInput]);
  args.params = buffer<float>(op.inputs[kParams]);
  args.residual = buffer<float>(op.inputs[kResidual]);
  args.output = buffer<void>(op.outputs[0]);
  args.out_type = output.dtype;
  args.activation = static_cast<Activation>(op.ints[kActivation]);
  args.tokens = columns_of(output);
  args.k = op.ints[kK];
  args.n = op.ints[kN];
  args.groups = op.ints[kGroups];
  args.rows = program_.constant<uint32_t>(op.consts[kRows]);
  args.offsets = program_.constant<uint32_t>(op.consts[kOffsets]);
  args.columns = prepacked_.columns(op);
  args.weights = program_.constant<int8_t>(op.consts[kWeights]);
  args.records = prepacked_.records(op);
  args.record_offsets = prepacked_.record_offsets(op);
  args.scale = program_.constant<float>(op.consts[kScale]);
  args.bias = program_.constant<float>(op.consts[kBias]);
  args.correction = program_.constant<int32_t>(op.consts[kCorrection]);
  const LinearTraits& traits = linear_traits_[static_cast<size_t>(&op - program_.ops.data())];
  args.rounds_to_int32 = traits.rounds_to_int32;
  args.rows_are_neighbors = traits.rows_are_neighbors;
  args.zero_point = op.ints[kZeroPoint];
  args.lo = op.ints[kLo];
  args.hi = op.ints[kHi];
  args.inv_scale = op.floats[kInvScale];
  return args;
}

AttentionArgs Executor::attention_args(const Op& op) const {
  using namespace attention_op;
  AttentionArgs args = {};
  args.query = buffer<uint8_t>(op.inputs[kQuery]);
  args.key = buffer<int8_t>(op.inputs[kKey]);
  args.value = buffer<int8_t>(op.inputs[kValue]);
  args.output = buffer<void>(op.outputs[0]);
  args.out_type = program_.buffers[static_cast<size_t>(op.outputs[0])].dtype;
  args.tokens = batch_.tokens;
  args.starts = batch_.starts;
  args.heads = op.ints[kHeads];
  args.head_dim = op.ints[kHeadDim];
  args.query_zero_point = op.ints[kQueryZeroPoint];
  args.zero_point = op.ints[kZeroPoint];
  args.score_scale = op.floats[kScoreScale];
  args.context_scale = op.floats[kContextScale];
  return args;
}

PoolArgs Executor::pool_args(const Op& op) const {
  PoolArgs args = {};
  args.input = buffer<float>(op.inputs[0]);
  args.output = buffer<float>(op.outputs[0]);
  args.starts = batch_.starts;
  args.tokens = batch_.tokens;
  args.sequences = batch_.sequences;
  args.channels = op.ints[pool_op::kChannels];
  return args;
}

}  // namespace oe
