// INT8 attention of one head of one sequence with NEON of ARMv7 (docs/reference/numerics.md, "Attention").
//
// Four queries are computed at a time. Both products are the step of tile.h, 8 bytes times one number of each query:
//
//   scores  [query][key]      += key[channel][8 keys]     * query[query][channel]
//   context [query][channel]  += value[key][8 channels]   * p[query][key]
//
// ARMv7's float vectors flush denormals to zero. The probabilities are computed with them all the same, because no
// denormal can change them: x and its fraction are added to numbers near 1, and powers below 2^-126 times 255 round to
// 0 either way. The context's floats, which may be the output, are computed by VFP.
//
// Bound: 32 VMLAL for 128 multiply-adds, as for linears (neon.cpp).
#include "attention.h"

#include <string.h>

#include "generic/functions.h"
#include "tile.h"

namespace oe {
namespace armhf {
namespace {

constexpr int32_t kQueries = 4;

int32_t up_to(int32_t multiple, int32_t n) { return (n + multiple - 1) / multiple * multiple; }
size_t size(int32_t n) { return static_cast<size_t>(n); }
size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// One head of one sequence, laid out in scratch for the two products. Keys beyond the sequence and channels beyond the
// head are zero.
struct Head {
  int32_t length, keys;     // tokens of the sequence; rounded up to a multiple of 8
  int32_t depth, channels;  // channels of the head; rounded up to a multiple of 8
  int8_t* key;              // [depth up to a multiple of 4][keys]
  int8_t* value;            // [keys][channels]
  int32_t* key_term;        // [keys]: -zero point * sum of the key
  int16_t* query;           // [kQueries][depth up to a multiple of 4]
  int32_t* score;           // [kQueries][keys]
  int16_t* probability;     // [kQueries][keys]
  int32_t* context;         // [kQueries][channels]
  float* biases;  // [2 * keys - 1], where there is a bias: number j - i + keys - 1 is that of query i to key j
  // Where there are position tables; numbers as those of biases, rounded up to `span`.
  size_t span;
  int8_t *position_key, *position_query;             // [depth][span]
  int32_t* position_term;                            // [span]: -zero point * sum of the row of position_key
  float *position_key_scale, *position_query_scale;  // [span]
  float* position_score;                             // [keys]: of one query
};

// The bytes of each array of a Head.
struct Sizes {
  size_t key, value, key_term, query, score, probability, context, biases;
  size_t positions, numbers;  // a position table; a number of each of its rows
};
Sizes sizes_of(const AttentionArgs& args, int32_t length) {
  const int32_t head_dim = args.head_dim;
  const size_t keys = size(up_to(kTile, length)), channels = size(up_to(kTile, head_dim)),
               depth = size(up_to(4, head_dim)), span = args.positions > 0 ? 2 * keys : 0;
  return {aligned(depth * keys),
          aligned(keys * channels),
          aligned(keys * 4),
          aligned(kQueries * depth * 2),
          aligned(kQueries * keys * 4),
          aligned(kQueries * keys * 2),
          aligned(kQueries * channels * 4),
          aligned(2 * keys * 4),
          aligned(depth * span),
          aligned(span * 4)};
}

// A head whose arrays lie in scratch.
Head lay_out(const AttentionArgs& args, int32_t length, void* scratch) {
  const int32_t head_dim = args.head_dim;
  const Sizes sizes = sizes_of(args, length);
  uint8_t* free_bytes = static_cast<uint8_t*>(scratch);
  const auto take = [&free_bytes](size_t bytes) {
    uint8_t* taken = free_bytes;
    free_bytes += bytes;
    return taken;
  };
  Head head;
  head.length = length;
  head.keys = up_to(kTile, length);
  head.depth = head_dim;
  head.channels = up_to(kTile, head_dim);
  head.key = reinterpret_cast<int8_t*>(take(sizes.key));
  head.value = reinterpret_cast<int8_t*>(take(sizes.value));
  head.key_term = reinterpret_cast<int32_t*>(take(sizes.key_term));
  head.query = reinterpret_cast<int16_t*>(take(sizes.query));
  head.score = reinterpret_cast<int32_t*>(take(sizes.score));
  head.probability = reinterpret_cast<int16_t*>(take(sizes.probability));
  head.context = reinterpret_cast<int32_t*>(take(sizes.context));
  head.biases = reinterpret_cast<float*>(take(sizes.biases));
  head.span = 2 * size(head.keys);
  head.position_key = reinterpret_cast<int8_t*>(take(sizes.positions));
  head.position_query = reinterpret_cast<int8_t*>(take(sizes.positions));
  head.position_term = reinterpret_cast<int32_t*>(take(sizes.numbers));
  head.position_key_scale = reinterpret_cast<float*>(take(sizes.numbers));
  head.position_query_scale = reinterpret_cast<float*>(take(sizes.numbers));
  head.position_score = reinterpret_cast<float*>(take(sizes.numbers));
  return head;
}

// Copies the keys and values of a head out of their panels, and finds what each key's scores start at.
void take_keys_and_values(const AttentionArgs& args, const Head& head, int32_t index, int32_t begin) {
  const int32_t channels = args.heads * args.head_dim;
  memset(head.key, 0, size(up_to(4, head.depth)) * size(head.keys));
  memset(head.value, 0, size(head.keys) * size(head.channels));
  memset(head.key_term, 0, size(head.keys) * 4);
  for (int32_t d = 0; d < head.depth; ++d) {
    int8_t* key = head.key + size(d) * size(head.keys);
    for (int32_t j = 0; j < head.length;) {  // the keys of one panel at a time
      const int32_t token = begin + j, in_panel = kPanel - token % kPanel;
      const int32_t count = head.length - j < in_panel ? head.length - j : in_panel;
      const size_t at = generic::element(args.tokens, channels, index * head.depth + d, token);
      memcpy(key + j, args.key + at, size(count));
      for (int32_t i = 0; i < count; ++i) {
        head.key_term[j + i] -= args.query_zero_point * args.key[at + size(i)];
        head.value[size(j + i) * size(head.channels) + size(d)] = args.value[at + size(i)];
      }
      j += count;
    }
  }
}

// Spreads the position tables of a head by how far a key is behind a query, channel by channel.
void take_positions(const AttentionArgs& args, const Head& head, int32_t index) {
  const size_t positions = size(args.positions), table = position_table(args, index);
  const float* key_scale = args.position_key_scale + size(index) * positions;
  const float* query_scale = args.position_query_scale + size(index) * positions;
  int32_t* row = head.position_term;  // until the terms take their place
  for (size_t n = 0; n < head.span; ++n) {
    row[n] = static_cast<int32_t>(position_row(args, static_cast<int32_t>(n) - head.keys + 1));
    head.position_key_scale[n] = key_scale[row[n]];
    head.position_query_scale[n] = query_scale[row[n]];
  }
  for (int32_t d = 0; d < head.depth; ++d) {
    const size_t quad = table + size(d / 4) * positions * 4 + size(d % 4), to = size(d) * head.span;
    for (size_t n = 0; n < head.span; ++n) {
      head.position_key[to + n] = args.position_key[quad + size(row[n]) * 4];
      head.position_query[to + n] = args.position_query[quad + size(row[n]) * 4];
    }
  }
  for (size_t n = 0; n < head.span; ++n) {
    int32_t sum = 0;
    for (int32_t d = 0; d < head.depth; ++d) sum += head.position_key[size(d) * head.span + n];
    head.position_term[n] = -args.query_zero_point * sum;
  }
}

// What the scores of one query have beside its products with the keys. The number of the first key is `first`.
void score_positions(const Head& head, const int16_t* query, size_t first) {
  const size_t keys = size(head.keys);
  for (size_t lane = 0; lane < keys; lane += kTile) {
    const size_t number = first + lane;
    TileSums<1> of_query;
    of_query.low[0] = vld1q_s32(head.position_term + number);
    of_query.high[0] = vld1q_s32(head.position_term + number + 4);
    int32x4_t low = vdupq_n_s32(0), high = vdupq_n_s32(0);  // of the keys
    for (size_t d = 0; d < size(head.depth); d += 4) {
      const int16x4_t w[1] = {vld1_s16(query + d)};
      const int8_t* x = head.position_key + d * head.span + number;
      add_lanes<1, 0>(of_query, x, w);
      add_lanes<1, 1>(of_query, x + head.span, w);
      add_lanes<1, 2>(of_query, x + 2 * head.span, w);
      add_lanes<1, 3>(of_query, x + 3 * head.span, w);
      OE_UNROLL for (size_t two = 0; two < 4; two += 2) {  // two products fit 16 bits
        const int8_t* y = head.position_query + (d + two) * head.span + number;
        const int8_t* k = head.key + (d + two) * keys + lane;
        int16x8_t sums = vmull_s8(vld1_s8(k), vld1_s8(y));
        sums = vmlal_s8(sums, vld1_s8(k + keys), vld1_s8(y + head.span));
        low = vaddw_s16(low, vget_low_s16(sums));
        high = vaddw_s16(high, vget_high_s16(sums));
      }
    }
    const auto score = [&](int32x4_t query_sums, int32x4_t key_sums, size_t n) OE_INLINE_LAMBDA {
      const float32x4_t of_keys = vmulq_f32(vcvtq_f32_s32(key_sums), vld1q_f32(head.position_query_scale + n));
      return vfmaq_f32(of_keys, vcvtq_f32_s32(query_sums), vld1q_f32(head.position_key_scale + n));
    };
    vst1q_f32(head.position_score + lane, score(of_query.low[0], low, number));
    vst1q_f32(head.position_score + lane + 4, score(of_query.high[0], high, number + 4));
  }
}

// Lanes, or numbers, of which [first, last) are computed.
struct Span {
  int32_t all, first, last;
};

// out[query][lane] = starts[lane] + the sum over the numbers k of matrix[k][lane] * numbers[query][k]. The ends of `lanes`
// are multiples of 8, those of `numbers` of 4. `starts` may be nullptr, for zeros.
void multiply(const int8_t* matrix, const Span& lanes_of, const int16_t* numbers, const Span& numbers_of,
              const int32_t* starts, int32_t* out) {
  const int32_t lanes = lanes_of.all, count = numbers_of.all;
  for (int32_t lane = lanes_of.first; lane < lanes_of.last; lane += kTile) {
    TileSums<kQueries> sums;
    const int32x4_t low = starts ? vld1q_s32(starts + lane) : vdupq_n_s32(0);
    const int32x4_t high = starts ? vld1q_s32(starts + lane + 4) : vdupq_n_s32(0);
    OE_UNROLL for (int q = 0; q < kQueries; ++q) {
      sums.low[q] = low;
      sums.high[q] = high;
    }
    const size_t step = size(lanes);
    const int8_t* x = matrix + lane + size(numbers_of.first) * step;
    for (int32_t k = numbers_of.first; k < numbers_of.last; k += 4, x += 4 * step) {
      int16x4_t w[kQueries];
      OE_UNROLL for (int q = 0; q < kQueries; ++q) w[q] = vld1_s16(numbers + size(q) * size(count) + k);
      add_lanes<kQueries, 0>(sums, x, w);
      add_lanes<kQueries, 1>(sums, x + step, w);
      add_lanes<kQueries, 2>(sums, x + 2 * step, w);
      add_lanes<kQueries, 3>(sums, x + 3 * step, w);
    }
    OE_UNROLL for (int q = 0; q < kQueries; ++q) {
      vst1q_s32(out + size(q) * size(lanes) + lane, sums.low[q]);
      vst1q_s32(out + size(q) * size(lanes) + lane + 4, sums.high[q]);
    }
  }
}

// The largest of `length` scores.
int32_t largest_of(const int32_t* score, int32_t length) {
  int32_t largest = INT32_MIN, j = 0;
  if (length >= 4) {
    int32x4_t most = vld1q_s32(score);
    for (j = 4; j + 4 <= length; j += 4) most = vmaxq_s32(most, vld1q_s32(score + j));
    const int32x2_t pair = vpmax_s32(vget_low_s32(most), vget_high_s32(most));
    largest = vget_lane_s32(vpmax_s32(pair, pair), 0);
  }
  for (; j < length; ++j) largest = score[j] > largest ? score[j] : largest;
  return largest;
}

// round(exp2(x) * 255), operation for operation what generic::exp2_of and round_even compute.
OE_INLINE int32x4_t probabilities(float32x4_t x) {
  const float32x4_t round = vdupq_n_f32(generic::kRound), least = vdupq_n_f32(-126.0f);
  x = vbslq_f32(vcgtq_f32(x, least), x, least);
  const float32x4_t z = vaddq_f32(x, round);
  const int32x4_t n = vsubq_s32(vreinterpretq_s32_f32(z), vreinterpretq_s32_f32(round));
  const float32x4_t r = vsubq_f32(x, vsubq_f32(z, round));
  float32x4_t p = vdupq_n_f32(0.00968571100383997f);
  p = vfmaq_f32(vdupq_n_f32(0.05592202767729759f), p, r);
  p = vfmaq_f32(vdupq_n_f32(0.2402186542749405f), p, r);
  p = vfmaq_f32(vdupq_n_f32(0.6931210160255432f), p, r);
  p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
  const float32x4_t e = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(n, 23)));
  const float32x4_t y = vmulq_f32(e, vdupq_n_f32(255.0f));
  return vcvtq_s32_f32(vsubq_f32(vaddq_f32(y, round), round));
}

// Turns the exponents of one query, of which exponents_from(j) gives four, into probabilities, and returns their sum.
// Of the keys that are computed, those that the query does not see get 0.
template <class Exponents>
OE_INLINE int32_t weigh(const Span& keys, const Span& seen, int16_t* probability, const Exponents& exponents_from) {
  int32x4_t total = vdupq_n_s32(0);
  for (int32_t j = keys.first; j < keys.last; j += 4) {
    int32x4_t p = probabilities(exponents_from(j));
    if (j < seen.first || j + 4 > seen.last) {
      int32_t lanes[4];
      vst1q_s32(lanes, p);
      for (int32_t i = 0; i < 4; ++i) lanes[i] = j + i >= seen.first && j + i < seen.last ? lanes[i] : 0;
      p = vld1q_s32(lanes);
    }
    total = vaddq_s32(total, p);
    vst1_s16(probability + j, vmovn_s32(p));
  }
  const int32x2_t pair = vadd_s32(vget_low_s32(total), vget_high_s32(total));
  return vget_lane_s32(vpadd_s32(pair, pair), 0);
}

int32_t weigh_scores(const Span& keys, const Span& seen, const int32_t* score, float score_scale,
                     int16_t* probability) {
  const int32x4_t most = vdupq_n_s32(largest_of(score + seen.first, seen.last - seen.first));
  const float32x4_t scale = vdupq_n_f32(score_scale);
  return weigh(keys, seen, probability,
               [&](int32_t j) { return vmulq_f32(vcvtq_f32_s32(vsubq_s32(vld1q_s32(score + j), most)), scale); });
}

// The same with biases, of which the first belongs to the first key. The float32 scores take the place of the others.
// The compiler writes no bias that ARMv7's vectors would flush to 0.
int32_t weigh_biased(const Head& head, int32_t* score, float score_scale, const float* biases, int16_t* probability) {
  float* biased = reinterpret_cast<float*>(score);
  const float32x4_t scale = vdupq_n_f32(score_scale);
  float32x4_t most = vdupq_n_f32(-INFINITY);
  for (int32_t j = 0; j < head.keys; j += 4) {
    const float32x4_t x = vfmaq_f32(vld1q_f32(biases + j), vcvtq_f32_s32(vld1q_s32(score + j)), scale);
    vst1q_f32(biased + j, x);
    if (j + 4 <= head.length) most = vmaxq_f32(most, x);
  }
  const float32x2_t pair = vpmax_f32(vget_low_f32(most), vget_high_f32(most));
  float largest = vget_lane_f32(vpmax_f32(pair, pair), 0);
  for (int32_t j = head.length / 4 * 4; j < head.length; ++j) largest = biased[j] > largest ? biased[j] : largest;
  most = vdupq_n_f32(largest);
  const Span keys = {head.keys, 0, head.keys}, seen = {head.length, 0, head.length};
  return weigh(keys, seen, probability, [&](int32_t j) { return vsubq_f32(vld1q_f32(biased + j), most); });
}

// Scales and stores the context of one query.
void store_context(const AttentionArgs& args, const Head& head, int32_t index, int32_t token, const int32_t* context,
                   float scale) {
  const size_t width = static_cast<size_t>(panel_width(args.tokens, token / kPanel));
  size_t out = generic::element(args.tokens, args.heads * args.head_dim, index * head.depth, token);
  for (int32_t d = 0; d < head.depth; ++d, out += width) {
    const float t = static_cast<float>(context[d]) * scale;
    if (args.out_type == DType::F32) {
      static_cast<float*>(args.output)[out] = t;
    } else {
      static_cast<uint8_t*>(args.output)[out] =
          static_cast<uint8_t>(generic::quantize_value(t, args.zero_point, 0, 255));
    }
  }
}

}  // namespace

void attention(const AttentionArgs& args, int32_t sequence, int32_t index, void* scratch) {
  const int32_t begin = args.starts[sequence], end = args.starts[sequence + 1];
  const Head head = lay_out(args, end - begin, scratch);
  const int32_t depth = up_to(4, head.depth), channels = args.heads * args.head_dim;
  take_keys_and_values(args, head, index, begin);
  memset(head.query, 0, kQueries * size(depth) * 2);
  if (args.bias) spread_biases(args, index, head.keys - 1, false, head.biases);
  if (args.positions > 0) take_positions(args, head, index);
  for (int32_t first = begin; first < end; first += kQueries) {
    const int32_t queries = end - first < kQueries ? end - first : kQueries;
    for (int32_t q = 0; q < queries; ++q) {  // the queries that are missing to four keep what they were, or zeros
      for (int32_t d = 0; d < head.depth; ++d) {
        head.query[q * depth + d] =
            args.query[generic::element(args.tokens, channels, index * head.depth + d, first + q)];
      }
    }
    const int32_t reach = args.window > 0 ? args.window : head.keys, query = first - begin;
    const int32_t from = query > reach ? (query - reach) / kTile * kTile : 0;
    const int32_t to = query + kQueries + reach < head.keys ? up_to(kTile, query + kQueries + reach) : head.keys;
    const Span keys = {head.keys, from, to};
    multiply(head.key, keys, head.query, {depth, 0, depth}, head.key_term, head.score);
    float scale[kQueries];
    for (int32_t q = 0; q < kQueries; ++q) {
      const size_t row = size(q) * size(head.keys);
      int32_t* score = head.score + row;
      int16_t* probability = head.probability + row;
      const int32_t own = query + (q < queries ? q : 0);  // those that are missing have the first one's keys
      const float* biases = head.biases + (head.keys - 1 - own);
      if (args.positions > 0) {
        score_positions(head, head.query + q * depth, size(head.keys - 1 - own));
        biases = head.position_score;
      }
      const Span seen = {head.length, own > reach ? own - reach : 0,
                         own + reach + 1 < head.length ? own + reach + 1 : head.length};
      const bool is_biased = args.bias || args.positions > 0;
      const int32_t total = is_biased ? weigh_biased(head, score, args.score_scale, biases, probability)
                                      : weigh_scores(keys, seen, score, args.score_scale, probability);
      scale[q] = args.context_scale / static_cast<float>(total);
    }
    multiply(head.value, {head.channels, 0, head.channels}, head.probability, keys, nullptr, head.context);
    for (int32_t q = 0; q < queries; ++q) {
      store_context(args, head, index, first + q, head.context + size(q) * size(head.channels), scale[q]);
    }
  }
}

size_t attention_scratch(const AttentionArgs& args, int32_t longest) {
  const Sizes s = sizes_of(args, longest);
  const size_t positions = args.positions > 0 ? 2 * s.positions + 4 * s.numbers : 0;
  return s.key + s.value + s.key_term + s.query + s.score + s.probability + s.context + s.biases + positions;
}

}  // namespace armhf
}  // namespace oe
