/* Runs a bundle from C: opens its graph and weights, computes the test cases it carries, and compares every bit.
 *
 * Compile it from the repository root, in a shell where `python3` has obert-edge installed:
 *
 *   ENGINE=$(python3 -c "import obert_edge.engine as engine; print(engine.__path__[0])")
 *   LIBRARY="$ENGINE/lib/libobert_edge.$(uname -m)-linux-gnu.so"
 *   cc -O2 -I"$ENGINE/include" examples/c/run.c "$LIBRARY" -o examples/c/run
 *   examples/c/run model.oeb
 *
 * Text becomes token ids in Python (`session.tokenizer`); a program of yours may read them from anywhere.
 */
#include <obert_edge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bundle.h"

_Noreturn static void fail(const char* what, const char* why) {
  fprintf(stderr, "error: %s: %s\n", what, why);
  exit(1);
}

/* Runs case `number` of a bundle; returns 0 when the bundle has no such case. */
static int run_case(oe_model* model, span cases, int number) {
  span starts, ids, token_types, expected;
  if (!find_array(cases, number, "starts", &starts)) return 0;
  if (!find_array(cases, number, "ids", &ids)) fail("cases.bin", "a case has no ids");
  if (!find_array(cases, number, "token_types", &token_types)) fail("cases.bin", "a case has no token types");

  /* Sequences lie one behind the other, without padding; the tokens of each are counted from 0. */
  oe_batch batch = {
      .sequences = (int32_t)(starts.bytes / sizeof(int32_t)) - 1,
      .tokens = (int32_t)(ids.bytes / sizeof(int32_t)),
      .starts = starts.data,
      .ids = ids.data,
      .token_types = token_types.data,
  };
  int32_t* positions = malloc(ids.bytes);
  if (!positions) fail("positions", "out of memory");
  for (int32_t sequence = 0; sequence < batch.sequences; ++sequence)
    for (int32_t token = batch.starts[sequence]; token < batch.starts[sequence + 1]; ++token)
      positions[token] = token - batch.starts[sequence];
  batch.positions = positions;

  /* The caller owns the results: one float32 array [rows][channels] for each of the model's outputs. */
  int32_t outputs = oe_model_outputs(model), channels, per_token;
  float** results = calloc((size_t)outputs, sizeof *results);
  if (!results) fail("results", "out of memory");
  for (int32_t i = 0; i < outputs; ++i) {
    if (oe_model_output(model, i, &channels, &per_token)) fail("oe_model_output", oe_last_error());
    size_t rows = (size_t)(per_token ? batch.tokens : batch.sequences);
    results[i] = malloc(rows * (size_t)channels * sizeof(float));
    if (!results[i]) fail("results", "out of memory");
  }
  if (oe_model_run(model, &batch, results, outputs)) fail("oe_model_run", oe_last_error());

  for (int32_t i = 0; i < outputs; ++i) {
    if (!find_output(cases, number, i, &expected)) fail("cases.bin", "a case lacks an output");
    if (memcmp(results[i], expected.data, expected.bytes)) fail("the results", "they differ from the bundle's");
    printf("case %d, output %d: %d sequences, %d tokens: the same %zu bytes, the first value %g\n", number, i,
           batch.sequences, batch.tokens, expected.bytes, (double)results[i][0]);
    free(results[i]);
  }
  free(results);
  free(positions);
  return 1;
}

int main(int count, char** arguments) {
  if (count != 2) fail("usage", "run MODEL.oeb");
  span file, program, weights, cases;
  if (!map_file(arguments[1], &file)) fail(arguments[1], "cannot be read");
  if (!find_member(file, "program.bin", &program) || !find_member(file, "weights.bin", &weights) ||
      !find_member(file, "cases.bin", &cases))
    fail(arguments[1], "is not a bundle");

  /* The engine reads graph and weights where they are: the file stays mapped while the model lives. */
  oe_model* model = oe_model_open(program.data, program.bytes, weights.data, weights.bytes, 2, NULL);
  if (!model) fail("oe_model_open", oe_last_error());
  printf("%s: kernels %s\n", arguments[1], oe_model_implementation(model));
  int number = 0;
  while (run_case(model, cases, number)) ++number;
  oe_model_close(model);
  return number ? 0 : 1;
}
