// CRC-32 by carry-less multiplication: 64 bytes are folded into the next 64 until 64 are left, which have the same
// remainder as everything before them (Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
// Instruction", Intel, 2009).
#include "base/crc32.h"

#include <immintrin.h>

namespace oe {
namespace {

// x^n modulo the polynomial, shifted left by one bit because the carry-less product of two bit-reflected numbers comes
// out one bit too low.
constexpr int64_t folding(int n) {
  uint32_t power = 0x80000000u;
  for (int i = 0; i < n; ++i) power = power >> 1 ^ (power & 1 ? kCrcPolynomial : 0);
  return static_cast<int64_t>(power) << 1;
}

constexpr size_t kVectors = 4, kBlock = 16 * kVectors;

}  // namespace

//   [16 | 16 | 16 | 16] --each half times x^n mod P, xor--> [16 | 16 | 16 | 16] --> ... --> the last 64, byte by byte
uint32_t crc32(const uint8_t* data, size_t bytes) {
  uint32_t crc = 0xFFFFFFFFu;
  const uint8_t* const end = data + bytes;
  if (bytes >= kBlock) {
    constexpr int64_t kFirst = folding(8 * kBlock + 32),
                      kSecond = folding(8 * kBlock - 32);  // for a vector's two halves
    const __m128i powers = _mm_set_epi64x(kSecond, kFirst);
    const auto load = [](const uint8_t* p) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    };
    __m128i folded[kVectors];
    for (size_t i = 0; i < kVectors; ++i) folded[i] = load(data + 16 * i);
    folded[0] = _mm_xor_si128(folded[0], _mm_cvtsi32_si128(static_cast<int>(crc)));
    for (data += kBlock; static_cast<size_t>(end - data) >= kBlock; data += kBlock) {
      for (size_t i = 0; i < kVectors; ++i) {
        const __m128i first = _mm_clmulepi64_si128(folded[i], powers, 0x00);
        const __m128i second = _mm_clmulepi64_si128(folded[i], powers, 0x11);
        folded[i] = _mm_xor_si128(_mm_xor_si128(first, second), load(data + 16 * i));
      }
    }
    uint8_t left[kBlock];
    for (size_t i = 0; i < kVectors; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(left + 16 * i), folded[i]);
    crc = 0;
    for (const uint8_t byte : left) crc = crc32_byte(crc, byte);
  }
  while (data < end) crc = crc32_byte(crc, *data++);
  return ~crc;
}

}  // namespace oe
