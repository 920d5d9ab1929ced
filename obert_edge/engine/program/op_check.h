// The checks every op makes of its record: a program may come from anywhere, and the kernels check nothing themselves.
#ifndef OBERT_EDGE_OP_CHECK_H
#define OBERT_EDGE_OP_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "obert_edge.h"
#include "program/program.h"

namespace oe {

// Returns from the calling function when a check failed.
#define OE_CHECK(call)                              \
  do {                                              \
    const int32_t check_status = (call);            \
    if (check_status != OE_OK) return check_status; \
  } while (0)

// Refuses the op of an OpCheck: a message that starts with the op's index and name.
#define OE_REFUSE(check, format, ...) \
  return oe::fail(OE_INVALID_PROGRAM, "op %zu (%s): " format, (check).index, (check).op.name, __VA_ARGS__)

// Sets of types, for OpCheck::buffer.
constexpr uint32_t kU8 = 1u << static_cast<int32_t>(DType::U8);
constexpr uint32_t kS8 = 1u << static_cast<int32_t>(DType::S8);
constexpr uint32_t kF32 = 1u << static_cast<int32_t>(DType::F32);

// Whether all values are codes of symmetric INT8: kLeastCode to 127.
bool are_codes(const int8_t* values, uint64_t count);

// One op of a program being checked. Each check returns OE_OK, or keeps a message that names the op, what was found and
// what was expected. `what` is the field's name in that message.
class OpCheck {
 public:
  OpCheck(const Program& program, size_t index) : program(program), op(program.ops[index]), index(index) {}

  // ---- buffers
  // A buffer of one of the `types` with `channels` channels; it may be absent where it is optional.
  int32_t buffer(const char* what, int32_t buffer, uint32_t types, int32_t channels, bool optional = false) const;
  // The domain of a buffer that was checked before, unless it is absent.
  int32_t domain(const char* what, int32_t buffer, Domain expected) const;
  // Two buffers of one op may share memory only where the kernels read an element before they write it.
  int32_t distinct(const char* a_name, int32_t a, const char* b_name, int32_t b) const;
  Domain domain_of(int32_t buffer) const { return program.buffer(buffer).domain; }

  // ---- constants
  // A constant of exactly `bytes` bytes; one of no bytes may be absent.
  int32_t constant(const char* what, int32_t constant, uint64_t bytes) const;
  // `count` finite float32.
  int32_t floats(const char* what, int32_t constant, int64_t count) const;

  // `bytes` codes of symmetric INT8.
  int32_t codes(const char* what, int32_t constant, uint64_t bytes) const;

  // ---- numbers
  int32_t in_range(const char* what, int64_t value, int64_t lo, int64_t hi) const;
  // Positive and finite.
  int32_t positive(const char* what, float value) const;
  int32_t channels(int32_t channels) const { return in_range("channels", channels, 1, kMaxChannels); }

  // Places of the record that its kind does not use must be absent, so that buffers can be walked without asking the
  // kind. A constant is absent or one of the program's, whether its op looks at it or not.
  int32_t places() const;

  const Program& program;
  const Op& op;
  const size_t index;
};

}  // namespace oe
#endif
