#include "ops/linear_traits.h"

#include "kernels/kernels.h"

namespace oe {
namespace {

float largest_magnitude(const float* values, int32_t count) {
  float largest = 0.0f;
  for (int32_t i = 0; i < count; ++i) {
    const float magnitude = values[i] < 0.0f ? -values[i] : values[i];
    if (magnitude > largest) largest = magnitude;
  }
  return largest;
}

// Whether every result of a static input fits an int32, whatever its sum is. Such a result may be rounded first and be
// clamped by the saturation of a pack instruction, because rounding commutes with clamping to whole numbers;
// docs/reference/numerics.md clamps first.
bool rounds_to_int32(const Program& program, const Op& op) {
  const int32_t n = op.ints[linear_op::kN];
  const float scale = largest_magnitude(program.constant<float>(op.consts[linear_op::kScale]), n);
  const float bias = largest_magnitude(program.constant<float>(op.consts[linear_op::kBias]), n);
  constexpr float kSums = 2147483648.0f;            // 2^31: no int32 sum is larger in magnitude
  constexpr float kHalfOfWhatFits = 1073741824.0f;  // 2^30: leaves room for the rounding of this bound itself
  return (kSums * scale + bias) * op.floats[linear_op::kInvScale] < kHalfOfWhatFits;
}

// Whether the rows that a kernel stores together follow each other: those of a group, or of the four groups that a
// record of 1x4 blocks holds.
bool rows_are_neighbors(const Program& program, const Op& op) {
  const Format format = static_cast<Format>(op.ints[linear_op::kFormat]);
  const int32_t together = block_of(format) == 4 ? 4 : rows_of(format);
  const int32_t count = op.ints[linear_op::kGroups] * rows_of(format);
  const uint32_t* rows = program.constant<uint32_t>(op.consts[linear_op::kRows]);
  if (count % together != 0) return false;
  for (int32_t i = 0; i < count; ++i) {
    if (rows[i] == kPadRow || rows[i] != rows[i - i % together] + static_cast<uint32_t>(i % together)) return false;
  }
  return true;
}

}  // namespace

LinearTraits linear_traits(const Program& program, const Op& op) {
  return {rounds_to_int32(program, op), rows_are_neighbors(program, op)};
}

}  // namespace oe
