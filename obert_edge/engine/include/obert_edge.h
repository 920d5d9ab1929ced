/* obert-edge engine: runs a compiled encoder (BERT, DistilBERT, RoBERTa, ...) on one CPU.
 *
 * `obert-edge build` compiles a model into two blobs: a program (the graph) and its weights. They are the members
 * program.bin and weights.bin of a bundle, which is an uncompressed ZIP file. This library runs them. It needs libc,
 * libm and libpthread, and its results have the same bits on every CPU, with any number of threads and in any batch.
 *
 * An example: one text through a classifier, without error handling.
 *
 *     #include <stdio.h>
 *     #include "obert_edge.h"
 *
 *     void classify(const void* program, uint64_t program_bytes, const void* weights, uint64_t weights_bytes) {
 *       oe_model* model = oe_model_open(program, program_bytes, weights, weights_bytes, 4, NULL);
 *       if (!model) {
 *         fprintf(stderr, "%s\n", oe_last_error());
 *         return;
 *       }
 *       const int32_t starts[] = {0, 5};                          // one sequence of five tokens
 *       const int32_t ids[] = {101, 2307, 3185, 999, 102};        // "great movie!", by the model's tokenizer
 *       const int32_t positions[] = {0, 1, 2, 3, 4};
 *       const oe_batch batch = {1, 5, starts, ids, positions, NULL};
 *       float logits[2];                                          // as many as oe_model_output says
 *       float* outputs[] = {logits};
 *       if (oe_model_run(model, &batch, outputs, 1) == OE_OK) printf("%f %f\n", logits[0], logits[1]);
 *       oe_model_close(model);
 *     }
 *
 * Ownership. The library never keeps a pointer you pass, with one exception: a model reads its weights in place, so
 * they must stay where they are until the model is closed. What you get back as `const char*` belongs to the library.
 * Everything else is yours.
 *
 * Threading. A model may be used from one thread at a time, and not always the same one. Different models are
 * independent. A model has threads of its own, which sleep between runs.
 *
 * Errors. No function throws, aborts or prints. A function that can fail returns a status (OE_OK is 0), or NULL, and
 * leaves a message for this thread in oe_last_error(). Blobs and batches may come from anywhere: they are checked, and
 * refused with a message that names the value found and the values expected. After an error a model can still be used.
 *
 * Versions. Functions are added, not changed. The library inside a bundle that was built long ago may be without those
 * marked "added later": where such a library can be met, look them up with dlsym().
 */
#ifndef OBERT_EDGE_H
#define OBERT_EDGE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OE_API __attribute__((visibility("default")))

/* ---- The library ------------------------------------------------------------------------------------------------ */

/* Grows when an existing function or struct changes its meaning. */
#define OE_ABI_VERSION 1

/* The OE_ABI_VERSION the library was built with; compare it with the header's after dlopen(). */
OE_API int32_t oe_abi_version(void);

/* Names of the implementations of the kernels that this CPU and library can run, best first, separated by commas:
 * "avx512vnni,avx2,scalar". All of them give the same bits. */
OE_API const char* oe_implementations(void);

/* ---- Errors ----------------------------------------------------------------------------------------------------- */

enum {
  OE_OK = 0,
  OE_INVALID_PROGRAM = 1, /* the program and weights are not ones this engine can run */
  OE_INVALID_INPUT = 2,   /* an argument, or a value of a batch, is out of range */
  OE_OUT_OF_MEMORY = 3,   /* the system gave no memory, or no threads */
  OE_UNSUPPORTED = 4,     /* this CPU, or this library, cannot do what was asked for */
  OE_INTERRUPTED = 5,     /* the caller's poll ended the run. Added later */
};

/* What was wrong in the last call that failed on this thread: one English sentence without a newline. "" when none has
 * failed. It stays until the next failure; a call that succeeds leaves it. */
OE_API const char* oe_last_error(void);

/* What to do about it, in the imperative; "" when the message says it all. Added later. */
OE_API const char* oe_last_hint(void);

/* Its status; OE_OK when no call has failed. For functions that return NULL. */
OE_API int32_t oe_last_status(void);

/* ---- Models ----------------------------------------------------------------------------------------------------- */

typedef struct oe_model oe_model;

/* Opens a model.
 *
 *   program, program_bytes   program.bin of a bundle; read during the call only
 *   weights, weights_bytes   weights.bin of the same bundle, at an address that is a multiple of 64; used in place
 *                            until the model is closed. A bundle's file mapped with mmap() has it at such an address.
 *   threads                  threads to compute with, 1 to 1024; the caller is one of them
 *   implementation           a name of oe_implementations(); NULL: $OBERT_EDGE_IMPLEMENTATION if set, else the best
 *
 * Returns the model, or NULL: OE_INVALID_PROGRAM, OE_INVALID_INPUT (threads), OE_UNSUPPORTED (implementation) or
 * OE_OUT_OF_MEMORY. Where the implementation reads the weights in another order, a copy of them is made. */
OE_API oe_model* oe_model_open(const void* program, uint64_t program_bytes, const void* weights, uint64_t weights_bytes,
                               int32_t threads, const char* implementation);

/* Ends the model's threads and frees its memory. NULL is allowed. No call may be using the model. */
OE_API void oe_model_close(oe_model* model);

/* The name of the implementation in use. It lives as long as the library. */
OE_API const char* oe_model_implementation(const oe_model* model);

/* The number of the model's outputs. Added later. */
OE_API int32_t oe_model_outputs(const oe_model* model);

/* The shape of output `index`, from 0 on.
 *
 *   channels    receives the float32 values of one row
 *   per_token   receives 1 when the output has a row for each token of the batch, 0 when it has one for each sequence
 *
 * OE_INVALID_INPUT when there is no such output. Added later. */
OE_API int32_t oe_model_output(const oe_model* model, int32_t index, int32_t* channels, int32_t* per_token);

/* Tells a model how many bytes of second-level cache a thread has while all threads work; 0, as at first: not known.
 * Linears whose weights exceed it are then computed in tiles of weights that stay in it for a whole panel of 64 tokens.
 * This changes the time of a run, never its results. Added later. */
OE_API void oe_model_set_cache(oe_model* model, uint64_t bytes);

/* The bytes that activations and scratch memory take now. They grow with the largest batch, and are given back to the
 * system, down to the largest of 64 runs, when those took less than a quarter of them. (Libraries without oe_model_trim
 * keep them until the model is closed.) */
OE_API uint64_t oe_model_arena_bytes(const oe_model* model);

/* Gives the memory of activations and scratch back to the system at once; the next run takes what it needs. For after a
 * large batch that no others will follow. Results do not depend on it. Added later. */
OE_API void oe_model_trim(oe_model* model);

/* ---- Running ---------------------------------------------------------------------------------------------------- */

/* A batch of sequences one after the other, without padding: sequence s owns tokens [starts[s], starts[s + 1]). */
typedef struct oe_batch {
  int32_t sequences;          /* 1 or more */
  int32_t tokens;             /* of all sequences: starts[sequences], at most 2^28 */
  const int32_t* starts;      /* [sequences + 1], ascending from 0; none is empty or longer than the model takes */
  const int32_t* ids;         /* [tokens]: rows of the word table */
  const int32_t* positions;   /* [tokens]: rows of the position table */
  const int32_t* token_types; /* [tokens]: rows of the token-type table; NULL: all 0 */
} oe_batch;

/* Runs the whole model.
 *
 *   batch       any size; memory is taken only when it is larger than recent ones
 *   outputs     n_outputs arrays of yours: outputs[i] receives output i as float32 [rows][channels], row-major, where
 *               the rows are the batch's tokens or sequences, as oe_model_output says
 *   n_outputs   must be oe_model_outputs(model)
 *
 * OE_INVALID_INPUT when a value of the batch is out of range; OE_INVALID_PROGRAM when an op of the program reads what
 * no earlier op wrote, which opening does not check; OE_OUT_OF_MEMORY. On an error `outputs` are left alone. */
OE_API int32_t oe_model_run(oe_model* model, const oe_batch* batch, float* const* outputs, int32_t n_outputs);

/* oe_model_run that asks now and then whether to go on. Added later.
 *
 *   poll      called about ten times a second, on the calling thread, while a run takes longer than that; 0: go on.
 *             NULL: as oe_model_run
 *   context   what `poll` is given
 *
 * OE_INTERRUPTED soon after `poll` returned another value than 0; then `outputs` may hold anything, and the model can be
 * used again. */
OE_API int32_t oe_model_run_polled(oe_model* model, const oe_batch* batch, float* const* outputs, int32_t n_outputs,
                                   int32_t (*poll)(void* context), void* context);

/* ---- Padded arrays ---------------------------------------------------------------------------------------------- */

/* Other runtimes take a batch as arrays [rows][columns] with a mask. These functions turn one into a batch of the real
 * tokens alone, and put per-token results back. All of them were added later. */

/* What a model says about its inputs; the manifest of a bundle has these numbers. */
typedef struct oe_input_rules {
  int32_t vocabulary;       /* ids of real tokens are 0 to vocabulary - 1; 0: left to oe_model_run to check */
  int32_t max_length;       /* columns at most; 0: left to oe_model_run to check */
  int32_t type_vocabulary;  /* token types of real tokens are 0 to type_vocabulary - 1; 0: the model has none */
  int32_t position_offset;  /* 0: a token's position is its column (BERT). Else the position of the first token, and */
                            /* positions count the tokens that are no padding (RoBERTa: 2) */
  int32_t pad_id;           /* the id of padding tokens, which positions do not count; masked tokens count */
  int32_t uses_first_token; /* 1: a result is taken from column 0, so no row may mask it */
} oe_input_rules;

/* Arrays [rows][columns], row-major, of unsigned bytes or of signed 32-bit or 64-bit integers. */
typedef struct oe_padded {
  int32_t rows;
  int32_t columns;
  const void* input_ids;
  const void* attention_mask; /* 1: a real token, 0: masked; NULL: all 1 */
  const void* token_type_ids; /* NULL: all 0 */
  int32_t id_bytes;           /* bytes of one value of each array: 1, 4 or 8 */
  int32_t mask_bytes;
  int32_t type_bytes;
} oe_padded;

/* The real tokens of a padded batch. Its arrays lie in the room that oe_pack was given. */
typedef struct oe_packed {
  oe_batch batch;
  const int32_t* places; /* [tokens]: row * columns + column of each */
  int32_t rows;
  int32_t columns;
} oe_packed;

/* How many int32 values of room oe_pack needs for arrays of this shape. 0 when the shape is empty or has more than 2^28
 * places; then oe_last_status() is OE_INVALID_INPUT. */
OE_API int64_t oe_pack_room(int64_t rows, int64_t columns);

/* Packs the real tokens of a batch.
 *
 *   room     oe_pack_room(rows, columns) values, which must live as long as `packed` is used
 *   packed   receives the batch; pass packed->batch to oe_model_run
 *
 * OE_INVALID_INPUT when a real token breaks a rule, a mask is neither 0 nor 1, or a row has no real token. Values of
 * masked tokens may be anything. */
OE_API int32_t oe_pack(const oe_input_rules* rules, const oe_padded* padded, int32_t* room, oe_packed* packed);

/* Puts the rows of a per-token output in their places.
 *
 *   channels   values of a row
 *   rows       float32 [tokens][channels], as oe_model_run gave them
 *   padded     receives float32 [rows][columns][channels], 0 where a token is masked; it may be the array `rows`
 *              itself, if that is large enough */
OE_API void oe_unpack(const oe_packed* packed, int32_t channels, const float* rows, float* padded);

/* The positions of sequences of which every token counts, ids of padding too: those of a bundle's embedded test cases.
 *
 *   starts      [sequences + 1], as in oe_batch
 *   positions   receives [starts[sequences]] */
OE_API void oe_count_positions(const oe_input_rules* rules, int32_t sequences, const int32_t* starts,
                               int32_t* positions);

/* ---- Measuring -------------------------------------------------------------------------------------------------- */

/* Switches the profile of a model on (`enable` not 0), starting at zero, or off, which keeps what was found. A run
 * takes some microseconds longer while it is on. */
OE_API int32_t oe_model_profile(oe_model* model, int32_t enable);

/* Reads the profile.
 *
 *   nanoseconds   receives the time of each op of the program, in order, summed over runs
 *   n_ops         how many times there is room for; must be the number of ops
 *   runs          receives the number of runs; NULL is allowed
 *
 * OE_INVALID_INPUT when n_ops is another number. */
OE_API int32_t oe_model_profile_read(const oe_model* model, uint64_t* nanoseconds, int32_t n_ops, uint64_t* runs);

/* Runs one op alone on buffers of yours, for tests and microbenchmarks; also of a program that cannot run as a whole.
 *
 *   index         which op of the program; an Output op cannot run alone
 *   batch         as for oe_model_run
 *   buffers       for each buffer of the program an address that is a multiple of 64, of memory that is large enough
 *                 for the batch (this is not checked) in the layout that engine/kernels/kernels.h describes; NULL for
 *                 buffers that the op does not use
 *   repeats       how often, 1 or more
 *   nanoseconds   receives the time of all repeats; NULL is allowed
 *
 * OE_INVALID_INPUT or OE_OUT_OF_MEMORY. */
OE_API int32_t oe_model_run_op(oe_model* model, int32_t index, const oe_batch* batch, void* const* buffers,
                               int32_t repeats, uint64_t* nanoseconds);

/* What oe_measure_peak measures, and its unit per nanosecond. */
enum {
  OE_PEAK_MULTIPLY_ADD = 0, /* 8-bit multiply-adds on registers */
  OE_PEAK_SHUFFLE = 1,      /* bytes through a shuffle, on registers */
  OE_PEAK_FLOAT = 2,        /* float32 multiply-adds on registers */
  OE_PEAK_ROW_GATHER = 3,   /* 8-bit multiply-adds of `parameter` rows (1, 2 or 4) that share columns, from L1 */
  OE_PEAK_READ = 4,         /* bytes read from `parameter` bytes of memory, over and over */
  OE_PEAK_WRITE = 5,        /* bytes written to `parameter` bytes of memory, over and over */
};

/* Measures what one thread of this CPU can do at most with the instructions of an implementation, in some 10 ms.
 *
 *   implementation   a name of oe_implementations()
 *   what             one of OE_PEAK_...
 *   parameter        as OE_PEAK_... says; else 0
 *
 * Returns units per nanosecond; 0 when it is not known. The libraries of some targets are without this function. */
OE_API double oe_measure_peak(const char* implementation, int32_t what, int64_t parameter);

/* ---- Checksums -------------------------------------------------------------------------------------------------- */

/* The CRC-32 of some bytes, as ZIP and zlib define it, at the speed of memory. It finds damage to a bundle.
 *
 *   crc   receives it
 *
 * OE_UNSUPPORTED when this CPU has no instructions for it. Added later. */
OE_API int32_t oe_crc32(const void* data, uint64_t bytes, uint32_t* crc);

#ifdef __cplusplus
}
#endif
#endif
