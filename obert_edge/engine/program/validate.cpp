// Validates every op against its buffers and constants: a program may come from anywhere, and the kernels
// check nothing themselves.
#include <math.h>
#include <string.h>

#include "obert_edge.h"
#include "program/program.h"
#include "base/status.h"

namespace oe {
namespace {

const char* name_of(DType dtype) { return dtype == DType::U8 ? "U8" : dtype == DType::S8 ? "S8" : "F32"; }

// The checks of one op; each returns OE_OK, or keeps a message that starts with the op's index and name.
class OpCheck {
 public:
  OpCheck(const Program& program, size_t index) : program_(program), op_(program.ops[index]), index_(index) {}

  int32_t run();

 private:
#define OE_CHECK(call)                                  \
  do {                                                  \
    const int32_t check_status = (call);                \
    if (check_status != OE_OK) return check_status;     \
  } while (0)
#define OE_REFUSE(format, ...) \
  return fail(OE_INVALID_PROGRAM, "op %zu (%s): " format, index_, op_.name, __VA_ARGS__)

  // ---- buffers
  // `types` is a set of 1 << DType. Absent is allowed when `optional`.
  int32_t buffer(const char* what, int32_t index, uint32_t types, int32_t channels, bool optional = false) const {
    if (index == kAbsent && optional) return OE_OK;
    if (index < 0 || static_cast<size_t>(index) >= program_.buffers.size()) {
      OE_REFUSE("its %s is buffer %d; the program has %zu buffers", what, index, program_.buffers.size());
    }
    const Buffer& b = program_.buffers[static_cast<size_t>(index)];
    if (!(types >> static_cast<int32_t>(b.dtype) & 1u)) {
      OE_REFUSE("its %s is buffer %d of type %s, which this op cannot use", what, index, name_of(b.dtype));
    }
    if (static_cast<int64_t>(b.channels) != channels) {
      OE_REFUSE("its %s has %u channels; the op says %d", what, b.channels, channels);
    }
    return OE_OK;
  }

  int32_t domain(const char* what, int32_t index, Domain expected) const {
    if (index == kAbsent || program_.buffers[static_cast<size_t>(index)].domain == expected) return OE_OK;
    OE_REFUSE("its %s is over %s; it must be over %s", what, expected == Domain::Tokens ? "sequences" : "tokens",
              expected == Domain::Tokens ? "tokens" : "sequences");
  }

  // Two buffers of one op may share memory only where the kernels read an element before they write it.
  int32_t distinct(const char* a_name, int32_t a, const char* b_name, int32_t b) const {
    if (a == kAbsent || b == kAbsent || slot(a) != slot(b)) return OE_OK;
    OE_REFUSE("its %s and its %s share slot %u", a_name, b_name, slot(a));
  }
  uint32_t slot(int32_t buffer) const { return program_.buffers[static_cast<size_t>(buffer)].slot; }
  Domain domain_of(int32_t buffer) const { return program_.buffers[static_cast<size_t>(buffer)].domain; }

  // ---- constants
  // An empty constant may be absent.
  int32_t constant(const char* what, int32_t index, uint64_t bytes) const {
    if (index == kAbsent && bytes == 0) return OE_OK;
    if (index < 0 || static_cast<size_t>(index) >= program_.consts.size()) {
      OE_REFUSE("its %s is constant %d; the program has %zu constants", what, index, program_.consts.size());
    }
    const uint64_t found = program_.consts[static_cast<size_t>(index)].bytes;
    if (found != bytes) {
      OE_REFUSE("its %s takes %llu bytes; it must take %llu", what, static_cast<unsigned long long>(found),
                static_cast<unsigned long long>(bytes));
    }
    return OE_OK;
  }

  int32_t floats(const char* what, int32_t index, int64_t count) const {
    OE_CHECK(constant(what, index, static_cast<uint64_t>(count) * 4));
    const float* values = program_.constant<float>(index);
    for (int64_t i = 0; i < count; ++i) {
      if (!isfinite(values[i])) OE_REFUSE("its %s[%lld] is not a finite number", what, static_cast<long long>(i));
    }
    return OE_OK;
  }

  // ---- attributes
  int32_t in_range(const char* what, int64_t value, int64_t lo, int64_t hi) const {
    if (value >= lo && value <= hi) return OE_OK;
    OE_REFUSE("its %s is %lld; it must be %lld to %lld", what, static_cast<long long>(value),
              static_cast<long long>(lo), static_cast<long long>(hi));
  }

  int32_t positive(const char* what, float value) const {
    if (isfinite(value) && value > 0.0f) return OE_OK;
    OE_REFUSE("its %s is %g; it must be positive and finite", what, static_cast<double>(value));
  }

  int32_t channels_in_range(int32_t channels) const { return in_range("channels", channels, 1, kMaxChannels); }

  // ---- one per kind of op
  int32_t unused_fields() const;
  int32_t embed() const;
  int32_t table(const char* what, int32_t rows, int32_t values, int32_t scales, int64_t row_bytes) const;
  int32_t word_table() const;
  int32_t layer_norm() const;
  int32_t quantize(bool dynamic) const;
  int32_t linear() const;
  int32_t packed_rows(int32_t row_count) const;
  int32_t packed_columns(Format format) const;
  int32_t masks(Format format) const;
  int32_t attention() const;
  int32_t pool() const;
  int32_t output() const;

  const Program& program_;
  const Op& op_;
  const size_t index_;
};

constexpr uint32_t kU8 = 1u << static_cast<int32_t>(DType::U8);
constexpr uint32_t kS8 = 1u << static_cast<int32_t>(DType::S8);
constexpr uint32_t kF32 = 1u << static_cast<int32_t>(DType::F32);

int32_t OpCheck::table(const char* what, int32_t rows, int32_t values, int32_t scales, int64_t row_bytes) const {
  OE_CHECK(in_range(what, rows, 1, 1 << 24));
  OE_CHECK(constant(what, values, static_cast<uint64_t>(rows) * static_cast<uint64_t>(row_bytes)));
  return floats(what, scales, rows);
}

int32_t OpCheck::word_table() const {
  const int32_t channels = op_.ints[embed_op::kChannels], rows = op_.ints[embed_op::kVocabulary];
  const int32_t values = op_.consts[embed_op::kWord], scales = op_.consts[embed_op::kWordScale];
  const int32_t group_scales = op_.consts[embed_op::kWordGroupScale];
  OE_CHECK(in_range("word_format", op_.ints[embed_op::kWordFormat], embed_op::kInt8, embed_op::kInt4));
  if (op_.ints[embed_op::kWordFormat] == embed_op::kInt8) {
    if (group_scales != kAbsent) OE_REFUSE("it has word group scales (constant %d) beside INT8 rows", group_scales);
    return table("word table", rows, values, scales, channels);
  }
  const int64_t groups = groups_of(channels);
  OE_CHECK(table("word table", rows, values, scales, groups * kInt4GroupBytes));
  return constant("word group scales", group_scales, static_cast<uint64_t>(rows * groups));
}

int32_t OpCheck::embed() const {
  const int32_t channels = op_.ints[embed_op::kChannels];
  OE_CHECK(channels_in_range(channels));
  OE_CHECK(buffer("output", op_.outputs[0], kF32, channels));
  OE_CHECK(domain("output", op_.outputs[0], Domain::Tokens));
  const int32_t* c = op_.consts;
  const int32_t positions = op_.ints[embed_op::kPositions];
  OE_CHECK(word_table());
  OE_CHECK(table("position table", positions, c[embed_op::kPosition], c[embed_op::kPositionScale], channels));
  if (static_cast<uint32_t>(positions) < program_.max_positions) {
    OE_REFUSE("its position table has %d rows; max_positions is %u", positions, program_.max_positions);
  }
  const int32_t types = op_.ints[embed_op::kTokenTypes];
  const bool has_types = c[embed_op::kTokenType] != kAbsent;
  if (!has_types) return in_range("token_types without a table", types, 0, 0);
  return table("token type table", types, c[embed_op::kTokenType], c[embed_op::kTokenTypeScale], channels);
}

int32_t OpCheck::layer_norm() const {
  const int32_t channels = op_.ints[layer_norm_op::kChannels];
  const int32_t input = op_.inputs[0];
  const int32_t output = op_.outputs[layer_norm_op::kOutput], quantized = op_.outputs[layer_norm_op::kQuantized];
  OE_CHECK(channels_in_range(channels));
  OE_CHECK(buffer("input", input, kF32, channels));
  OE_CHECK(buffer("output", output, kF32, channels, true));
  OE_CHECK(buffer("quantized output", quantized, kU8, channels, true));
  OE_CHECK(domain("output", output, domain_of(input)));
  OE_CHECK(domain("quantized output", quantized, domain_of(input)));
  OE_CHECK(distinct("input", input, "quantized output", quantized));
  OE_CHECK(distinct("output", output, "quantized output", quantized));
  OE_CHECK(floats("gamma", op_.consts[layer_norm_op::kGamma], channels));
  OE_CHECK(floats("beta", op_.consts[layer_norm_op::kBeta], channels));
  OE_CHECK(positive("epsilon", op_.floats[layer_norm_op::kEpsilon]));
  OE_CHECK(in_range("zero_point", op_.ints[layer_norm_op::kZeroPoint], 0, 255));  // kernels may derive from it anyhow
  return quantized == kAbsent ? OE_OK : positive("inv_scale", op_.floats[layer_norm_op::kInvScale]);
}

int32_t OpCheck::quantize(bool dynamic) const {
  const int32_t channels = op_.ints[quantize_op::kChannels];
  const int32_t input = op_.inputs[0], output = op_.outputs[quantize_op::kOutput];
  OE_CHECK(channels_in_range(channels));
  OE_CHECK(buffer("input", input, kF32, channels));
  OE_CHECK(buffer("output", output, kU8, channels));
  OE_CHECK(domain("output", output, domain_of(input)));
  OE_CHECK(distinct("input", input, "output", output));
  if (!dynamic) {
    OE_CHECK(in_range("zero_point", op_.ints[quantize_op::kZeroPoint], 0, 255));
    return positive("inv_scale", op_.floats[quantize_op::kInvScale]);
  }
  const int32_t params = op_.outputs[quantize_op::kParams];
  OE_CHECK(buffer("params", params, kF32, 2));
  OE_CHECK(domain("params", params, domain_of(input)));
  OE_CHECK(distinct("input", input, "params", params));
  return distinct("output", output, "params", params);
}

// Every output channel must be written exactly once: a missing one would be left over from another buffer.
int32_t OpCheck::packed_rows(int32_t row_count) const {
  const int32_t n = op_.ints[linear_op::kN];
  const int64_t packed = static_cast<int64_t>(op_.ints[linear_op::kGroups]) * row_count;
  OE_CHECK(constant("rows", op_.consts[linear_op::kRows], static_cast<uint64_t>(packed) * 4));
  const uint32_t* rows = program_.constant<uint32_t>(op_.consts[linear_op::kRows]);
  Array<uint8_t> seen;
  if (!seen.allocate(static_cast<size_t>(n))) return fail(OE_OUT_OF_MEMORY, "no memory to check the program");
  int64_t written = 0;
  for (int64_t i = 0; i < packed; ++i) {
    if (rows[i] == kPadRow) continue;
    if (rows[i] >= static_cast<uint32_t>(n)) {
      OE_REFUSE("its rows[%lld] is channel %u; the output has %d", static_cast<long long>(i), rows[i], n);
    }
    if (seen[rows[i]]++) OE_REFUSE("its rows name output channel %u twice", rows[i]);
    ++written;
  }
  if (written != n) OE_REFUSE("its rows name %lld of %d output channels", static_cast<long long>(written), n);
  return OE_OK;
}

int32_t OpCheck::packed_columns(Format format) const {
  const int32_t k = op_.ints[linear_op::kK], groups = op_.ints[linear_op::kGroups];
  const int32_t row_count = rows_of(format);
  const int32_t* consts = op_.consts;
  const uint64_t table_bytes = (static_cast<uint64_t>(groups) + 1) * 4;

  if (format == Format::Dense4) {
    const uint64_t quads = (static_cast<uint64_t>(k) + 3) / 4;
    OE_CHECK(constant("columns", consts[linear_op::kColumns], 0));
    if (consts[linear_op::kOffsets] != kAbsent) {
      OE_CHECK(constant("offsets", consts[linear_op::kOffsets], table_bytes));
    }
    OE_CHECK(constant("weights", consts[linear_op::kWeights], static_cast<uint64_t>(groups) * quads * 16));
    const int8_t* weights = program_.constant<int8_t>(consts[linear_op::kWeights]);
    for (uint64_t group = 0; k % 4 && group < static_cast<uint64_t>(groups); ++group) {
      const int8_t* last = weights + ((group + 1) * quads - 1) * 16;
      for (int32_t i = 0; i < 16; ++i) {
        if (i % 4 >= k % 4 && last[i]) OE_REFUSE("group %llu has a weight beyond its %d inputs",
                                                 static_cast<unsigned long long>(group), k);
      }
    }
    return OE_OK;
  }

  OE_CHECK(constant("offsets", consts[linear_op::kOffsets], table_bytes));
  const uint32_t* offsets = program_.constant<uint32_t>(consts[linear_op::kOffsets]);
  if (offsets[0] != 0) OE_REFUSE("its offsets start at %u; they must start at 0", offsets[0]);
  for (int32_t group = 0; group < groups; ++group) {
    if (offsets[group + 1] < offsets[group]) OE_REFUSE("its offsets fall at group %d", group);
    if (offsets[group + 1] - offsets[group] > kMaxColumnsOfGroup / 4) {
      OE_REFUSE("group %d has %u blocks of four columns; the limit is %u", group, offsets[group + 1] - offsets[group],
                kMaxColumnsOfGroup / 4);
    }
  }
  const uint64_t quads = offsets[groups];
  const bool blocks = format == Format::Block1x4;
  const uint64_t listed = blocks ? quads : quads * 4;
  OE_CHECK(constant("weights", consts[linear_op::kWeights], quads * static_cast<uint64_t>(row_count) * 4));
  OE_CHECK(in_range("column_coding", op_.ints[linear_op::kColumnCoding], 0, 1));
  if (static_cast<ColumnCoding>(op_.ints[linear_op::kColumnCoding]) == ColumnCoding::Masks) return masks(format);
  OE_CHECK(constant("columns", consts[linear_op::kColumns], listed * 2));
  const uint16_t* columns = program_.constant<uint16_t>(consts[linear_op::kColumns]);
  const int32_t last = blocks ? k - 4 : k - 1;
  // First the largest of all, in a loop the compiler can vectorize: millions of columns are checked at every load.
  uint16_t largest = 0;
  for (uint64_t i = 0; i < listed; ++i) largest = columns[i] > largest ? columns[i] : largest;
  for (uint64_t i = 0; listed && largest > last && i < listed; ++i) {
    if (columns[i] > last) {
      OE_REFUSE("its columns[%llu] is input channel %u; the largest possible is %d", static_cast<unsigned long long>(i),
                columns[i], last);
    }
  }
  return OE_OK;
}

// A group's bits are as many as its offsets say, in whole quads where the format has quads; none is beyond k.
int32_t OpCheck::masks(Format format) const {
  const int32_t k = op_.ints[linear_op::kK], groups = op_.ints[linear_op::kGroups];
  const bool blocks = format == Format::Block1x4;
  const size_t bytes = mask_bytes(format, k), bits = static_cast<size_t>(blocks ? k / 4 : k);
  OE_CHECK(constant("columns", op_.consts[linear_op::kColumns], static_cast<uint64_t>(groups) * bytes));
  const uint8_t* mask = program_.constant<uint8_t>(op_.consts[linear_op::kColumns]);
  const uint32_t* offsets = program_.constant<uint32_t>(op_.consts[linear_op::kOffsets]);
  for (int32_t group = 0; group < groups; ++group, mask += bytes) {
    uint32_t set = 0;
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
      uint64_t word;
      memcpy(&word, mask + i, sizeof word);
      set += static_cast<uint32_t>(__builtin_popcountll(word));
    }
    for (; i < bytes; ++i) set += static_cast<uint32_t>(__builtin_popcount(mask[i]));
    const uint32_t units = blocks ? set : (set + 3) / 4, stored = offsets[group + 1] - offsets[group];
    if (units != stored) {
      OE_REFUSE("the mask of group %d has %u bits set; its offsets say %u blocks of four columns", group, set, stored);
    }
    if (bits % 8 && mask[bytes - 1] >> bits % 8) OE_REFUSE("the mask of group %d has a bit beyond its %d inputs", group, k);
  }
  return OE_OK;
}

int32_t OpCheck::linear() const {
  const int32_t k = op_.ints[linear_op::kK], n = op_.ints[linear_op::kN];
  const int32_t input = op_.inputs[linear_op::kInput], params = op_.inputs[linear_op::kParams];
  const int32_t residual = op_.inputs[linear_op::kResidual], output = op_.outputs[0];
  OE_CHECK(in_range("k", k, 1, kMaxInputChannels));
  OE_CHECK(in_range("n", n, 1, kMaxChannels));
  OE_CHECK(in_range("groups", op_.ints[linear_op::kGroups], 1, n));
  OE_CHECK(in_range("format", op_.ints[linear_op::kFormat], 1, 5));
  OE_CHECK(in_range("activation", op_.ints[linear_op::kActivation], 0, 4));
  OE_CHECK(buffer("input", input, kU8, k));
  OE_CHECK(buffer("params", params, kF32, 2, true));
  OE_CHECK(buffer("residual", residual, kF32, n, true));
  OE_CHECK(buffer("output", output, kU8 | kS8 | kF32, n));
  OE_CHECK(domain("params", params, domain_of(input)));
  OE_CHECK(domain("residual", residual, domain_of(input)));
  OE_CHECK(domain("output", output, domain_of(input)));
  OE_CHECK(distinct("input", input, "output", output));
  OE_CHECK(distinct("params", params, "output", output));
  // Checked for a float output too, where kernels may derive from them all the same.
  const DType type = program_.buffers[static_cast<size_t>(output)].dtype;
  const int32_t lowest = type == DType::U8 ? 0 : -128, highest = type == DType::S8 ? 127 : 255;
  const int32_t lo = op_.ints[linear_op::kLo], hi = op_.ints[linear_op::kHi];
  OE_CHECK(in_range("lo", lo, lowest, highest));
  OE_CHECK(in_range("hi", hi, lo, highest));
  OE_CHECK(in_range("zero_point", op_.ints[linear_op::kZeroPoint], lowest, highest));
  if (type != DType::F32) {
    OE_CHECK(distinct("residual", residual, "8-bit output", output));
    OE_CHECK(positive("inv_scale", op_.floats[linear_op::kInvScale]));
  }
  const Format format = static_cast<Format>(op_.ints[linear_op::kFormat]);
  OE_CHECK(packed_rows(rows_of(format)));
  OE_CHECK(packed_columns(format));
  OE_CHECK(floats("scale", op_.consts[linear_op::kScale], n));
  OE_CHECK(floats("bias", op_.consts[linear_op::kBias], n));
  return constant("correction", op_.consts[linear_op::kCorrection], static_cast<uint64_t>(n) * 4);
}

int32_t OpCheck::attention() const {
  const int32_t heads = op_.ints[attention_op::kHeads], head_dim = op_.ints[attention_op::kHeadDim];
  OE_CHECK(in_range("heads", heads, 1, 4096));
  OE_CHECK(in_range("head_dim", head_dim, 1, 1024));
  const int32_t channels = heads * head_dim, output = op_.outputs[0];
  OE_CHECK(buffer("query", op_.inputs[attention_op::kQuery], kU8, channels));
  OE_CHECK(buffer("key", op_.inputs[attention_op::kKey], kS8, channels));
  OE_CHECK(buffer("value", op_.inputs[attention_op::kValue], kS8, channels));
  OE_CHECK(buffer("output", output, kU8 | kF32, channels));
  OE_CHECK(domain("output", output, Domain::Tokens));
  for (int32_t i = 0; i < 3; ++i) {
    OE_CHECK(domain("input", op_.inputs[i], Domain::Tokens));
    OE_CHECK(distinct("input", op_.inputs[i], "output", output));
  }
  OE_CHECK(in_range("query_zero_point", op_.ints[attention_op::kQueryZeroPoint], 0, 255));
  OE_CHECK(in_range("zero_point", op_.ints[attention_op::kZeroPoint], 0, 255));
  OE_CHECK(positive("score_scale", op_.floats[attention_op::kScoreScale]));
  return positive("context_scale", op_.floats[attention_op::kContextScale]);
}

int32_t OpCheck::pool() const {
  const int32_t channels = op_.ints[pool_op::kChannels];
  OE_CHECK(channels_in_range(channels));
  OE_CHECK(buffer("input", op_.inputs[0], kF32, channels));
  OE_CHECK(buffer("output", op_.outputs[0], kF32, channels));
  OE_CHECK(domain("input", op_.inputs[0], Domain::Tokens));
  OE_CHECK(domain("output", op_.outputs[0], Domain::Sequences));
  return distinct("input", op_.inputs[0], "output", op_.outputs[0]);
}

int32_t OpCheck::output() const {
  OE_CHECK(channels_in_range(op_.ints[pool_op::kChannels]));
  return buffer("input", op_.inputs[0], kF32, op_.ints[pool_op::kChannels]);
}

// Record fields past the ones a kind of op uses must be absent, so that they can be walked without asking the kind.
int32_t OpCheck::unused_fields() const {
  struct Arity {
    int32_t inputs, outputs;
  };
  static constexpr Arity kArity[] = {{0, 0}, {0, 1}, {1, 2}, {1, 1}, {1, 2}, {3, 1}, {3, 1}, {1, 1}, {1, 1}, {1, 0}};
  const Arity arity = kArity[static_cast<uint32_t>(op_.kind)];
  for (int32_t i = arity.inputs; i < 4; ++i) {
    if (op_.inputs[i] != kAbsent) OE_REFUSE("input %d is %d; this op has %d", i, op_.inputs[i], arity.inputs);
  }
  for (int32_t i = arity.outputs; i < 4; ++i) {
    if (op_.outputs[i] != kAbsent) OE_REFUSE("output %d is %d; this op has %d", i, op_.outputs[i], arity.outputs);
  }
  return OE_OK;
}

int32_t OpCheck::run() {
  OE_CHECK(unused_fields());
  switch (op_.kind) {
    case OpKind::Embed:
      return embed();
    case OpKind::LayerNorm:
      return layer_norm();
    case OpKind::Quantize:
      return quantize(false);
    case OpKind::QuantizeDynamic:
      return quantize(true);
    case OpKind::Linear:
      return linear();
    case OpKind::Attention:
      return attention();
    case OpKind::SelectFirst:
    case OpKind::MeanPool:
      return pool();
    case OpKind::Output:
      return output();
  }
  return OE_INVALID_PROGRAM;
}

}  // namespace

int32_t validate_ops(const Program& program) {
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const int32_t status = OpCheck(program, i).run();
    if (status != OE_OK) return status;
  }
  return OE_OK;
}

}  // namespace oe
