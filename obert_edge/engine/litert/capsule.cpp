#include "capsule.h"

#include <string.h>

#include "base/status.h"

namespace oe {
namespace {

constexpr char kMagic[] = "OBERTCAP";
constexpr uint32_t kVersion = 1;
constexpr uint64_t kAlignment = 64;
constexpr uint32_t kUsesFirstToken = 1;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t flags;
  int32_t position_offset;
  int32_t pad_id;
  int32_t type_vocabulary;
  uint32_t squeezed;
  uint64_t program_bytes;
  uint64_t weights_bytes;
  uint8_t reserved[16];
};
static_assert(sizeof(Header) == kAlignment, "the program starts at a multiple of the alignment");

}  // namespace

int32_t parse_capsule(const void* data, uint64_t bytes, Capsule* capsule) {
  Header header;
  if (!data || bytes < sizeof header || memcmp(data, kMagic, sizeof header.magic) != 0) {
    return fail(OE_INVALID_PROGRAM, "%llu bytes were given that are no compiled graph",
                static_cast<unsigned long long>(bytes));
  }
  memcpy(&header, data, sizeof header);
  if (header.version != kVersion) {
    return fail(OE_INVALID_PROGRAM, "the compiled graph has format %u; this engine reads %u", header.version, kVersion);
  }
  const uint64_t room = bytes - sizeof header;
  const uint64_t program = header.program_bytes;
  const uint64_t padding = -program % kAlignment;
  if (program > room || padding > room - program || header.weights_bytes != room - program - padding) {
    return fail(OE_INVALID_PROGRAM,
                "the compiled graph has %llu bytes; %llu of program and %llu of weights were expected",
                static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(program),
                static_cast<unsigned long long>(header.weights_bytes));
  }
  const auto* start = static_cast<const uint8_t*>(data) + sizeof header;
  capsule->rules.position_offset = header.position_offset;
  capsule->rules.pad_id = header.pad_id;
  capsule->rules.type_vocabulary = header.type_vocabulary;
  capsule->rules.uses_first_token = header.flags & kUsesFirstToken;
  capsule->squeezed = header.squeezed;
  capsule->program = start;
  capsule->program_bytes = program;
  capsule->weights = start + program + padding;
  capsule->weights_bytes = header.weights_bytes;
  return OE_OK;
}

}  // namespace oe
