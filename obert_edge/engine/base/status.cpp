#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

namespace oe {
namespace {

thread_local char message[512];
thread_local const char* kept_hint = "";
thread_local int32_t kept_status = 0;

}  // namespace

int32_t fail(int32_t status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  kept_hint = "";
  kept_status = status;
  return status;
}

int32_t advise(int32_t status, const char* hint) {
  kept_hint = hint;
  return status;
}

const char* last_error() { return message; }

const char* last_hint() { return kept_hint; }

int32_t last_status() { return kept_status; }

}  // namespace oe
