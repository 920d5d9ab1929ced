// Embed: the word, position and token-type rows of each token, dequantized and added; or the word rows of the tokens
// beside it and its own, one after the other.
#include "exec/parallel.h"
#include "ops/definition.h"

namespace oe {
namespace {

// ---- what it accepts

int32_t check_table(const OpCheck& check, const char* what, int32_t rows, int32_t values, int32_t scales,
                    int64_t row_bytes) {
  OE_CHECK(check.in_range(what, rows, 1, 1 << 24));
  OE_CHECK(check.constant(what, values, static_cast<uint64_t>(rows) * static_cast<uint64_t>(row_bytes)));
  return check.floats(what, scales, rows);
}

// Without a word table the sum is that of the other rows.
int32_t check_no_words(const OpCheck& check, const EmbedFields& op) {
  OE_CHECK(check.in_range("vocabulary without a word table", op.vocabulary, 0, 0));
  OE_CHECK(check.in_range("neighbors without a word table", op.neighbors, 0, 0));
  OE_CHECK(check.in_range("word group scales without a word table", op.word_group_scale, kAbsent, kAbsent));
  return op.position == kAbsent ? check.in_range("token_types without other tables", op.token_types, 1, 1 << 24)
                                : OE_OK;
}

int32_t check_word_table(const OpCheck& check, const EmbedFields& op, int32_t channels) {
  OE_CHECK(check.in_range("word_format", static_cast<int32_t>(op.word_format), kFirstRowFormat, kLastRowFormat));
  if (op.word_format == RowFormat::Int8) {
    if (op.word_group_scale != kAbsent) {
      OE_REFUSE(check, "it has word group scales (constant %d) beside INT8 rows", op.word_group_scale);
    }
    return check_table(check, "word table", op.vocabulary, op.word, op.word_scale, channels);
  }
  const int64_t groups = groups_of(channels);
  OE_CHECK(check_table(check, "word table", op.vocabulary, op.word, op.word_scale, groups * kInt4GroupBytes));
  return check.constant("word group scales", op.word_group_scale, static_cast<uint64_t>(op.vocabulary * groups));
}

int32_t check_op(const OpCheck& check) {
  const EmbedFields op = embed_fields(check.op);
  OE_CHECK(check.channels(op.channels));
  OE_CHECK(check.buffer("output", op.output, kF32, op.channels));
  OE_CHECK(check.domain("output", op.output, Domain::Tokens));
  OE_CHECK(check.in_range("neighbors", op.neighbors, 0, 1));
  if (op.neighbors) {
    OE_CHECK(check.in_range("channels beyond three rows", op.channels % 3, 0, 0));
    OE_CHECK(check.in_range("position table beside neighbors", op.position, kAbsent, kAbsent));
    OE_CHECK(check.in_range("token type table beside neighbors", op.token_type, kAbsent, kAbsent));
  }
  if (op.word == kAbsent) {
    OE_CHECK(check_no_words(check, op));
  } else {
    OE_CHECK(check_word_table(check, op, op.neighbors ? op.channels / 3 : op.channels));
  }
  if (op.position == kAbsent) {
    OE_CHECK(check.in_range("positions without a table", op.positions, 0, 0));
  } else {
    OE_CHECK(check_table(check, "position table", op.positions, op.position, op.position_scale, op.channels));
    if (static_cast<uint32_t>(op.positions) < check.program.max_positions) {
      OE_REFUSE(check, "its position table has %d rows; max_positions is %u", op.positions,
                check.program.max_positions);
    }
  }
  if (op.token_type == kAbsent) return check.in_range("token_types without a table", op.token_types, 0, 0);
  return check_table(check, "token type table", op.token_types, op.token_type, op.token_type_scale, op.channels);
}

// Values of one input array must be rows of a table.
int32_t check_rows(const char* what, const int32_t* values, int32_t count, int32_t rows) {
  for (int32_t i = 0; i < count; ++i) {
    if (values[i] < 0 || values[i] >= rows) {
      return fail(OE_INVALID_INPUT, "%s[%d] is %d; it must be 0 to %d", what, i, values[i], rows - 1);
    }
  }
  return OE_OK;
}

int32_t check_batch(const Op& record, const oe_batch& batch) {
  const EmbedFields op = embed_fields(record);
  if (!batch.ids || !batch.positions) return fail(OE_INVALID_INPUT, "the batch has no ids or no positions");
  if (op.vocabulary > 0) OE_CHECK(check_rows("ids", batch.ids, batch.tokens, op.vocabulary));
  if (op.positions > 0) OE_CHECK(check_rows("positions", batch.positions, batch.tokens, op.positions));
  if (!batch.token_types || op.neighbors) return OE_OK;  // another op has the types
  return check_rows("token_types", batch.token_types, batch.tokens, op.token_types ? op.token_types : 1);
}

// ---- how it runs

EmbedArgs args_of(const Run& run, int32_t index) {
  const EmbedFields op = embed_fields(run.op(index));
  EmbedArgs args = {};
  args.ids = run.batch.ids;
  args.positions = run.batch.positions;
  args.token_types = run.batch.token_types;
  args.starts = run.batch.starts;
  args.word = run.program.constant<int8_t>(op.word);
  args.word_group_scale = run.program.constant<int8_t>(op.word_group_scale);
  args.word_scale = args.word ? run.program.constant<float>(op.word_scale) : nullptr;
  args.position = run.program.constant<int8_t>(op.position);
  args.position_scale = args.position ? run.program.constant<float>(op.position_scale) : nullptr;
  args.token_type = run.program.constant<int8_t>(op.token_type);
  args.token_type_scale = args.token_type ? run.program.constant<float>(op.token_type_scale) : nullptr;
  args.output = run.buffer<float>(op.output);
  args.tokens = run.batch.tokens;
  args.sequences = run.batch.sequences;
  args.channels = op.channels;
  args.neighbors = op.neighbors != 0;
  return args;
}

void run_batch(const Run& run, int32_t index, int32_t) {
  const EmbedArgs args = args_of(run, index);
  parallel_tokens(run.pool, args.tokens, kStep,
                  [&](int32_t begin, int32_t end) { run.kernels.embed(args, begin, end); });
}

void run_panel(const Run& run, int32_t index, int32_t panel, int32_t) {
  const TokenRange range = tokens_of_panel(run.batch.tokens, panel);
  run.kernels.embed(args_of(run, index), range.begin, range.end);
}

constexpr OpDefinition define() {
  OpDefinition op;
  op.check = check_op;
  op.check_batch = check_batch;
  op.run = run_batch;
  op.run_panel = run_panel;
  return op;
}

}  // namespace

const OpDefinition kEmbedDefinition = define();

}  // namespace oe
