// Errors of the engine: a status code, and a message kept per thread for oe_last_error().
#ifndef OBERT_EDGE_STATUS_H
#define OBERT_EDGE_STATUS_H

#include <stdint.h>

namespace oe {

// Keeps the formatted message and returns `status`, so a check reads `return fail(OE_..., "...")`.
__attribute__((format(printf, 2, 3))) int32_t fail(int32_t status, const char* format, ...);

// The message of the last fail() on this thread; "" when there was none.
const char* last_error();
int32_t last_status();

}  // namespace oe
#endif
