// INT8 attention of one head of one sequence (docs/reference/numerics.md, "Attention"), one query after the other.
#include "functions.h"
#include "scalar.h"

namespace oe {
namespace generic {
namespace {

// Rounded up to a multiple of 64, so that every array in scratch is aligned.
size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Copies one head of tokens [begin, end) from panels to rows [token][head_dim].
void gather_head(const int8_t* panels, const AttentionArgs& args, int32_t head, int32_t begin, int32_t end,
                 int8_t* rows) {
  for (int32_t t = begin; t < end; ++t) {
    for (int32_t d = 0; d < args.head_dim; ++d) {
      *rows++ = panels[element(args.tokens, args.heads * args.head_dim, head * args.head_dim + d, t)];
    }
  }
}

// The bias of the key that is `distance` tokens behind a query.
float bias_of(const AttentionArgs& args, int32_t head, int32_t distance) {
  const int32_t most = args.distances - 1;
  const int32_t clamped = distance > most ? most : distance < -most ? -most : distance;
  return args.bias[static_cast<size_t>(head) * static_cast<size_t>(2 * most + 1) + static_cast<size_t>(clamped + most)];
}

// What a score has beside its product of query and key, where there are position tables. `query` and `key` are of the
// head, and the key is so many tokens `behind`.
float position_score(const AttentionArgs& args, int32_t head, const uint8_t* query, const int8_t* key, int32_t behind) {
  const size_t positions = static_cast<size_t>(args.positions), row = position_row(args, behind);
  const int8_t* position_key = args.position_key + position_table(args, head);
  const int8_t* position_query = args.position_query + position_table(args, head);
  int32_t of_query = 0, of_key = 0;
  for (int32_t d = 0; d < args.head_dim; ++d) {
    const size_t at = (static_cast<size_t>(d / 4) * positions + row) * 4 + static_cast<size_t>(d % 4);
    of_query += (query[d] - args.query_zero_point) * position_key[at];
    of_key += key[d] * position_query[at];
  }
  const size_t at = static_cast<size_t>(head) * positions + row;
  return fmaf(static_cast<float>(of_query), args.position_key_scale[at],
              static_cast<float>(of_key) * args.position_query_scale[at]);
}

}  // namespace

void attention(const AttentionArgs& args, int32_t sequence, int32_t head, void* scratch) {
  const int32_t begin = args.starts[sequence], end = args.starts[sequence + 1];
  const bool is_biased = args.bias || args.positions > 0;
  const int32_t length = end - begin, depth = args.head_dim, channels = args.heads * args.head_dim;
  const size_t rows = static_cast<size_t>(length) * static_cast<size_t>(depth);

  const auto at = [depth](int32_t token, int32_t d) {
    return static_cast<size_t>(token) * static_cast<size_t>(depth) + static_cast<size_t>(d);
  };
  uint8_t* free_bytes = static_cast<uint8_t*>(scratch);
  const auto take = [&free_bytes](size_t bytes) {
    uint8_t* taken = free_bytes;
    free_bytes += aligned(bytes);
    return taken;
  };
  int8_t* key = reinterpret_cast<int8_t*>(take(rows));
  int8_t* value = reinterpret_cast<int8_t*>(take(rows));
  int32_t* key_sum = reinterpret_cast<int32_t*>(take(static_cast<size_t>(length) * 4));
  int32_t* score = reinterpret_cast<int32_t*>(take(static_cast<size_t>(length) * 4));
  float* biased = reinterpret_cast<float*>(take(static_cast<size_t>(length) * 4));
  uint8_t* query = take(static_cast<size_t>(depth));
  int32_t* context = reinterpret_cast<int32_t*>(take(static_cast<size_t>(depth) * 4));

  gather_head(args.key, args, head, begin, end, key);
  gather_head(args.value, args, head, begin, end, value);
  for (int32_t j = 0; j < length; ++j) {
    key_sum[j] = 0;
    for (int32_t d = 0; d < depth; ++d) key_sum[j] += key[at(j, d)];
  }

  for (int32_t i = begin; i < end; ++i) {
    for (int32_t d = 0; d < depth; ++d) query[d] = args.query[element(args.tokens, channels, head * depth + d, i)];

    const int32_t first = args.window > 0 && i - args.window > begin ? i - args.window - begin : 0;
    const int32_t last = args.window > 0 && i + args.window < end - 1 ? i + args.window - begin + 1 : length;
    int32_t largest = INT32_MIN;
    float largest_biased = -INFINITY;
    for (int32_t j = first; j < last; ++j) {
      int32_t a = 0;
      for (int32_t d = 0; d < depth; ++d) a += query[d] * key[at(j, d)];
      a -= args.query_zero_point * key_sum[j];
      score[j] = a;
      if (a > largest) largest = a;
      if (is_biased) {
        const int32_t behind = begin + j - i;
        const float bias =
            args.bias ? bias_of(args, head, behind) : position_score(args, head, query, key + at(j, 0), behind);
        biased[j] = fmaf(static_cast<float>(a), args.score_scale, bias);
        if (biased[j] > largest_biased) largest_biased = biased[j];
      }
    }

    memset(context, 0, static_cast<size_t>(depth) * 4);
    int32_t total = 0;
    for (int32_t j = first; j < last; ++j) {
      const float x =
          is_biased ? biased[j] - largest_biased : static_cast<float>(score[j] - largest) * args.score_scale;
      const int32_t p = round_even(exp2_of(x) * 255.0f);
      total += p;
      if (p == 0) continue;
      for (int32_t d = 0; d < depth; ++d) context[d] += p * value[at(j, d)];
    }

    const float scale = args.context_scale / static_cast<float>(total);
    for (int32_t d = 0; d < depth; ++d) {
      const float t = static_cast<float>(context[d]) * scale;
      const size_t out = element(args.tokens, channels, head * depth + d, i);
      if (args.out_type == DType::F32) {
        static_cast<float*>(args.output)[out] = t;
      } else {
        static_cast<uint8_t*>(args.output)[out] = static_cast<uint8_t>(quantize_value(t, args.zero_point, 0, 255));
      }
    }
  }
}

size_t attention_scratch(const AttentionArgs& args, int32_t longest) {
  const size_t depth = static_cast<size_t>(args.head_dim), length = static_cast<size_t>(longest);
  return 2 * aligned(length * depth) + 3 * aligned(length * 4) + aligned(depth) + aligned(depth * 4);
}

}  // namespace generic
}  // namespace oe
