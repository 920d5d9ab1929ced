// CRC-32 as ZIP and zlib define it, by instructions of the CPU. It finds damage to a bundle.
#ifndef OBERT_EDGE_CRC32_H
#define OBERT_EDGE_CRC32_H

#include <stddef.h>
#include <stdint.h>

namespace oe {

// Weak: targets whose CPUs have no instruction for it do not define it. To be called where CpuFeatures::crc32 says so.
uint32_t crc32(const uint8_t* data, size_t bytes) __attribute__((weak));

constexpr uint32_t kCrcPolynomial = 0xEDB88320u;  // here and in remainders bit 31 - i is the coefficient of x^i

// `crc` after one more byte: the plain definition, for the bytes that fill no vector.
static inline uint32_t crc32_byte(uint32_t crc, uint8_t byte) {
  crc ^= byte;
  for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? kCrcPolynomial : 0);
  return crc;
}

}  // namespace oe
#endif
