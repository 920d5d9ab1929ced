// CRC-32 by the instructions of ARMv8's CRC extension.
#include "base/crc32.h"

#include <arm_acle.h>
#include <string.h>

namespace oe {

uint32_t crc32(const uint8_t* data, size_t bytes) {
  uint32_t crc = 0xFFFFFFFFu;
  for (; bytes >= 8; bytes -= 8, data += 8) {
    uint64_t eight;
    memcpy(&eight, data, sizeof eight);
    crc = __crc32d(crc, eight);
  }
  for (; bytes > 0; --bytes) crc = __crc32b(crc, *data++);
  return ~crc;
}

}  // namespace oe
