// The scalar functions of docs/reference/numerics.md ("Quantization", "exp2, tanh", "GELU"), one C++ statement per
// rounding.
//
// All of them are `static`, because the object files that include them are compiled for different instruction sets
// (kernels.h).
#ifndef OBERT_EDGE_GENERIC_FUNCTIONS_H
#define OBERT_EDGE_GENERIC_FUNCTIONS_H

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

namespace oe {
namespace generic {

// The index of element (channel, token) in a buffer of `channels` channels and `tokens` tokens (the panels of
// kernels.h).
static inline size_t element(int32_t tokens, int32_t channels, int32_t channel, int32_t token) {
  const int32_t panel = token / kPanel;
  return static_cast<size_t>(panel) * kPanel * static_cast<size_t>(channels) +
         static_cast<size_t>(channel) * static_cast<size_t>(panel_width(tokens, panel)) +
         static_cast<size_t>(token % kPanel);
}

static inline int32_t bits_of(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
static inline float from_bits(int32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// int32 sums that wrap around as vector instructions do; signed overflow would be undefined in C++.
static inline int32_t wrap_add(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}
static inline int32_t wrap_sub(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b));
}
static inline int32_t wrap_mul(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
}

// A NaN in the first argument gives the second, as MAXPS and MINPS of x86 do.
static inline float max_of(float a, float b) { return a > b ? a : b; }
static inline float min_of(float a, float b) { return a < b ? a : b; }

// 1.5 * 2^23: adding and subtracting it rounds |x| < 2^22 to a whole number, ties to even.
constexpr float kRound = 12582912.0f;

// The nearest whole number, ties to even, for |x| < 2^22.
static inline int32_t round_even(float x) { return static_cast<int32_t>((x + kRound) - kRound); }

// The byte of t = y / scale: clamped in float, then rounded.
static inline int32_t quantize_value(float t, int32_t zero_point, int32_t lo, int32_t hi) {
  const float low = static_cast<float>(lo - zero_point);
  const float high = static_cast<float>(hi - zero_point);
  return round_even(min_of(max_of(t, low), high)) + zero_point;
}

// 2^x for x <= 0.
static inline float exp2_of(float x) {
  x = max_of(x, -126.0f);
  const float z = x + kRound;
  const int32_t n = wrap_sub(bits_of(z), bits_of(kRound));
  const float r = x - (z - kRound);
  float p = 0.00968571100383997f;
  p = fmaf(p, r, 0.05592202767729759f);
  p = fmaf(p, r, 0.2402186542749405f);
  p = fmaf(p, r, 0.6931210160255432f);
  p = fmaf(p, r, 1.0f);
  return from_bits(wrap_add(bits_of(p), static_cast<int32_t>(static_cast<uint32_t>(n) << 23)));
}

static inline float tanh_of(float x) {
  const float e = exp2_of(fabsf(x) * -2.885390043258667f);
  return copysignf((1.0f - e) / (1.0f + e), x);
}

constexpr float kGelu[11] = {0.02749713324010372f, -0.13303950428962708f, 0.24659240245819092f,  -0.1472158133983612f,
                             -0.2029682844877243f, 0.43478140234947205f,  -0.20490720868110657f, -0.176315039396286f,
                             0.17638038098812103f, 0.021782496944069862f, -0.04258676618337631f};
constexpr float kGeluTanh[11] = {0.02719680778682232f,  -0.13464891910552979f, 0.2493198961019516f,
                                 -0.13996218144893646f, -0.21296827495098114f, 0.42198753356933594f,
                                 -0.18776476383209229f, -0.1660359501838684f,  0.16257815062999725f,
                                 0.01864766515791416f,  -0.03835925832390785f};

static inline float gelu_of(float x, const float (&coefficients)[11]) {
  const float v = fmaf(min_of(fabsf(x), 4.5f), 0.4444444477558136f, -1.0f);
  float h = coefficients[10];
  for (int i = 9; i >= 0; --i) h = fmaf(h, v, coefficients[i]);
  return max_of(x, 0.0f) - h;
}

// x * sigmoid(x) as h + h * tanh(h), h = x / 2.
static inline float silu_of(float x) {
  const float h = x * 0.5f;
  return fmaf(h, tanh_of(h), h);
}

static inline float activate(float y, Activation activation) {
  switch (activation) {
    case Activation::Gelu:
      return gelu_of(y, kGelu);
    case Activation::GeluTanh:
      return gelu_of(y, kGeluTanh);
    case Activation::Relu:
      return max_of(y, 0.0f);
    case Activation::Tanh:
      return tanh_of(y);
    case Activation::Silu:
      return silu_of(y);
    case Activation::None:
      break;
  }
  return y;
}

}  // namespace generic
}  // namespace oe
#endif
