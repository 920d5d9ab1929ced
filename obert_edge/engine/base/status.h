// Errors of the engine: a status code, and a message kept per thread for oe_last_error().
#ifndef OBERT_EDGE_STATUS_H
#define OBERT_EDGE_STATUS_H

#include <stdint.h>

namespace oe {

// Keeps the formatted message and returns `status`, so a check reads `return fail(OE_..., "...")`.
__attribute__((format(printf, 2, 3))) int32_t fail(int32_t status, const char* format, ...);

// Adds what to do about the error that was just kept, and returns `status`. The text must live forever.
int32_t advise(int32_t status, const char* hint);

// The message, the hint and the status of the last fail() on this thread; "", "" and 0 when there was none.
const char* last_error();
const char* last_hint();
int32_t last_status();

}  // namespace oe
#endif
