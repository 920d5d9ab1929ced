// Linear (docs/reference/numerics.md, "Linear"): exact int32 sums for each weight format, and one epilogue for all.
// Loops are in the order of the definition; this is the reference, and nothing here is for speed.
#include "linear_epilogue.h"
#include "scalar.h"

namespace oe {
namespace generic {
namespace {

// The sums of up to four rows for the tokens of one panel.
using Sums = int32_t[4][kPanel];

// sums[token] += weight * input[channel][token]
void add_channel(const uint8_t* panel_input, int32_t width, int32_t channel, int32_t weight, int32_t* sums) {
  if (weight == 0) return;  // fills up a quad, whose channel may lie beyond k and must not be read
  const uint8_t* row = panel_input + static_cast<size_t>(channel) * static_cast<size_t>(width);
  for (int32_t t = 0; t < width; ++t) sums[t] += weight * row[t];
}

// The epilogue of the rows of a group.
void write_group(const LinearArgs& args, int32_t panel, const uint32_t* rows, int32_t row_count, const Sums& sums) {
  for (int32_t r = 0; r < row_count; ++r) {
    if (rows[r] != kPadRow) write_channel(args, panel, rows[r], sums[r], 0, panel_width(args.tokens, panel));
  }
}

const uint8_t* panel_of_input(const LinearArgs& args, int32_t panel) {
  return args.input + element(args.tokens, args.k, 0, panel * kPanel);
}

template <int32_t R>
void row_gather(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end) {
  static_assert(R <= static_cast<int32_t>(sizeof(Sums) / sizeof(int32_t[kPanel])), "every row of a group has sums");
  const uint8_t* input = panel_of_input(args, panel);
  const int32_t width = panel_width(args.tokens, panel);
  for (int32_t group = group_begin; group < group_end; ++group) {
    Sums sums = {};
    for (size_t quad = args.offsets[group]; quad < args.offsets[group + 1]; ++quad) {
      for (int32_t r = 0; r < R; ++r) {
        for (int32_t c = 0; c < 4; ++c) {
          const int32_t weight = args.weights[(quad * R + static_cast<size_t>(r)) * 4 + static_cast<size_t>(c)];
          add_channel(input, width, args.columns[quad * 4 + static_cast<size_t>(c)], weight, sums[r]);
        }
      }
    }
    write_group(args, panel, args.rows + static_cast<size_t>(group) * R, R, sums);
  }
}

}  // namespace

void linear_row_gather_1(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                         const LinearScratch&) {
  row_gather<1>(args, panel, group_begin, group_end);
}
void linear_row_gather_2(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                         const LinearScratch&) {
  row_gather<2>(args, panel, group_begin, group_end);
}
void linear_row_gather_4(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                         const LinearScratch&) {
  row_gather<4>(args, panel, group_begin, group_end);
}

void linear_dense_4(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                    const LinearScratch&) {
  const uint8_t* input = panel_of_input(args, panel);
  const int32_t width = panel_width(args.tokens, panel);
  const int32_t quads = (args.k + 3) / 4;
  for (int32_t group = group_begin; group < group_end; ++group) {
    Sums sums = {};
    for (int32_t quad = 0; quad < quads; ++quad) {
      const size_t packed = static_cast<size_t>(group) * static_cast<size_t>(quads) + static_cast<size_t>(quad);
      for (int32_t r = 0; r < 4; ++r) {
        for (int32_t c = 0; c < 4; ++c) {
          const int32_t weight = args.weights[(packed * 4 + static_cast<size_t>(r)) * 4 + static_cast<size_t>(c)];
          add_channel(input, width, quad * 4 + c, weight, sums[r]);
        }
      }
    }
    write_group(args, panel, args.rows + static_cast<size_t>(group) * 4, 4, sums);
  }
}

void linear_block_1x4(const LinearArgs& args, int32_t panel, int32_t group_begin, int32_t group_end,
                      const LinearScratch&) {
  const uint8_t* input = panel_of_input(args, panel);
  const int32_t width = panel_width(args.tokens, panel);
  for (int32_t group = group_begin; group < group_end; ++group) {
    Sums sums = {};
    for (size_t block = args.offsets[group]; block < args.offsets[group + 1]; ++block) {
      for (int32_t c = 0; c < 4; ++c) {
        const int32_t weight = args.weights[block * 4 + static_cast<size_t>(c)];
        add_channel(input, width, args.columns[block] + c, weight, sums[0]);
      }
    }
    write_group(args, panel, args.rows + group, 1, sums);
  }
}

size_t linear_scratch(const LinearArgs&) { return 0; }

}  // namespace generic
}  // namespace oe
