#include "program/op_check.h"

#include <math.h>

namespace oe {
namespace {

const char* plural(Domain domain) { return domain == Domain::Tokens ? "tokens" : "sequences"; }

}  // namespace

bool are_codes(const int8_t* values, uint64_t count) {
  uint8_t other = 0;  // a loop without a branch, which the compiler can vectorize: there are millions of weights
  for (uint64_t i = 0; i < count; ++i) other |= static_cast<uint8_t>(values[i] < kLeastCode);
  return !other;
}

int32_t OpCheck::buffer(const char* what, int32_t buffer, uint32_t types, int32_t channels, bool optional) const {
  if (buffer == kAbsent && optional) return OE_OK;
  if (buffer < 0 || static_cast<size_t>(buffer) >= program.buffers.size()) {
    OE_REFUSE(*this, "its %s is buffer %d; the program has %zu buffers", what, buffer, program.buffers.size());
  }
  const Buffer& found = program.buffer(buffer);
  const auto dtype = static_cast<int32_t>(found.dtype);
  if (!(types >> dtype & 1u)) {
    OE_REFUSE(*this, "its %s is buffer %d of type %s, which this op cannot use", what, buffer, kDTypeNames[dtype]);
  }
  if (static_cast<int64_t>(found.channels) != channels) {
    OE_REFUSE(*this, "its %s has %u channels; the op says %d", what, found.channels, channels);
  }
  return OE_OK;
}

int32_t OpCheck::domain(const char* what, int32_t buffer, Domain expected) const {
  if (buffer == kAbsent || domain_of(buffer) == expected) return OE_OK;
  OE_REFUSE(*this, "its %s is over %s; it must be over %s", what, plural(domain_of(buffer)), plural(expected));
}

int32_t OpCheck::distinct(const char* a_name, int32_t a, const char* b_name, int32_t b) const {
  if (a == kAbsent || b == kAbsent || program.buffer(a).slot != program.buffer(b).slot) return OE_OK;
  OE_REFUSE(*this, "its %s and its %s share slot %u", a_name, b_name, program.buffer(a).slot);
}

int32_t OpCheck::constant(const char* what, int32_t constant, uint64_t bytes) const {
  if (constant == kAbsent && bytes == 0) return OE_OK;
  if (constant < 0 || static_cast<size_t>(constant) >= program.consts.size()) {
    OE_REFUSE(*this, "its %s is constant %d; the program has %zu constants", what, constant, program.consts.size());
  }
  const uint64_t found = program.consts[static_cast<size_t>(constant)].bytes;
  if (found != bytes) {
    OE_REFUSE(*this, "its %s takes %llu bytes; it must take %llu", what, static_cast<unsigned long long>(found),
              static_cast<unsigned long long>(bytes));
  }
  return OE_OK;
}

int32_t OpCheck::floats(const char* what, int32_t constant, int64_t count) const {
  OE_CHECK(this->constant(what, constant, static_cast<uint64_t>(count) * 4));
  const float* values = program.constant<float>(constant);
  for (int64_t i = 0; i < count; ++i) {
    if (!isfinite(values[i])) OE_REFUSE(*this, "its %s[%lld] is not a finite number", what, static_cast<long long>(i));
  }
  return OE_OK;
}

int32_t OpCheck::codes(const char* what, int32_t constant, uint64_t bytes) const {
  OE_CHECK(this->constant(what, constant, bytes));
  const int8_t* values = program.constant<int8_t>(constant);
  if (are_codes(values, bytes)) return OE_OK;
  uint64_t i = 0;
  while (values[i] >= kLeastCode) ++i;
  OE_REFUSE(*this, "its %s[%llu] is %d; it must be %d to 127", what, static_cast<unsigned long long>(i), values[i],
            kLeastCode);
}

int32_t OpCheck::in_range(const char* what, int64_t value, int64_t lo, int64_t hi) const {
  if (value >= lo && value <= hi) return OE_OK;
  OE_REFUSE(*this, "its %s is %lld; it must be %lld to %lld", what, static_cast<long long>(value),
            static_cast<long long>(lo), static_cast<long long>(hi));
}

int32_t OpCheck::positive(const char* what, float value) const {
  if (isfinite(value) && value > 0.0f) return OE_OK;
  OE_REFUSE(*this, "its %s is %g; it must be positive and finite", what, static_cast<double>(value));
}

int32_t OpCheck::places() const {
  const OpShape& shape = kOpShapes[static_cast<uint32_t>(op.kind)];
  for (int32_t i = shape.inputs; i < kMaxInputs; ++i) {
    if (op.inputs[i] != kAbsent) OE_REFUSE(*this, "input %d is %d; this op has %d", i, op.inputs[i], shape.inputs);
  }
  for (int32_t i = shape.outputs; i < kMaxOutputs; ++i) {
    if (op.outputs[i] != kAbsent) OE_REFUSE(*this, "output %d is %d; this op has %d", i, op.outputs[i], shape.outputs);
  }
  for (int32_t i = 0; i < shape.consts; ++i) {
    const int32_t constant = op.consts[i];
    if (constant != kAbsent && (constant < 0 || static_cast<size_t>(constant) >= program.consts.size())) {
      OE_REFUSE(*this, "constant %d of the op is number %d; the program has %zu constants", i, constant,
                program.consts.size());
    }
  }
  return OE_OK;
}

}  // namespace oe
