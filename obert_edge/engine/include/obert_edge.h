/* obert-edge engine: the C ABI.
 *
 * One model = one compiled graph (program.bin) over one weights blob (weights.bin), both borrowed:
 * the caller keeps them mapped while the model lives. Every function that can fail returns NULL or a
 * non-zero status and leaves a message in oe_last_error() and the status in oe_last_status() (both thread-local).
 * No function throws. The weights must be at a 64-byte aligned address.
 * A model may be used from one thread at a time; different models are independent.
 */
#ifndef OBERT_EDGE_H
#define OBERT_EDGE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OE_API __attribute__((visibility("default")))
#define OE_ABI_VERSION 1

enum {
  OE_OK = 0,
  OE_INVALID_PROGRAM = 1, /* the blobs are not a program this engine can run */
  OE_INVALID_INPUT = 2,   /* ids, positions or lengths out of range */
  OE_OUT_OF_MEMORY = 3,
  OE_UNSUPPORTED = 4, /* the implementation asked for cannot run on this CPU */
};

typedef struct oe_model oe_model;

/* A batch of sequences, packed without padding. Sequence s owns tokens [starts[s], starts[s + 1]). */
typedef struct oe_batch {
  int32_t sequences;          /* >= 1 */
  int32_t tokens;             /* starts[sequences] */
  const int32_t* starts;      /* [sequences + 1], ascending, starts[0] == 0; no empty sequence */
  const int32_t* ids;         /* [tokens] */
  const int32_t* positions;   /* [tokens] */
  const int32_t* token_types; /* [tokens], or NULL: all zero */
} oe_batch;

OE_API int32_t oe_abi_version(void);
OE_API const char* oe_last_error(void);
OE_API int32_t oe_last_status(void); /* of the last failed call on this thread; OE_OK when none failed */

/* Names of the implementations this CPU can run, best first, comma-separated ("avx512vnni,avx2,scalar"). */
OE_API const char* oe_implementations(void);

/* `implementation` NULL: $OBERT_EDGE_IMPLEMENTATION if set, else the best. `threads` >= 1. */
OE_API oe_model* oe_model_open(const void* program, uint64_t program_bytes, const void* weights,
                               uint64_t weights_bytes, int32_t threads, const char* implementation);
OE_API void oe_model_close(oe_model* model);
OE_API const char* oe_model_implementation(const oe_model* model);

/* How many bytes of second-level cache a thread has while all work; 0, as at first: not known. Linears whose weights
 * exceed it are then computed in tiles of weights that stay there for a whole panel of tokens. Results do not depend on
 * it. Not while the model runs. Libraries older than this function are without it. */
OE_API void oe_model_set_cache(oe_model* model, uint64_t bytes);

/* A program whose ops do not feed each other soundly opens (its ops can be run alone) but does not run:
 * OE_INVALID_PROGRAM. ids and positions are needed only where the program has an Embed op.
 * outputs[i]: caller's float32 [rows][channels] of the program's i-th Output op, where rows is
 * batch->tokens or batch->sequences by the domain of its buffer. */
OE_API int32_t oe_model_run(oe_model* model, const oe_batch* batch, float* const* outputs, int32_t n_outputs);

/* How many results the program has, and of one: values per row, and whether its rows are tokens (1) or sequences (0).
 * Libraries older than these functions are without them. */
OE_API int32_t oe_model_outputs(const oe_model* model);
OE_API int32_t oe_model_output(const oe_model* model, int32_t index, int32_t* channels, int32_t* per_token);

/* Bytes the activation arena and scratch take now (they grow to the largest batch seen, never shrink). */
OE_API uint64_t oe_model_arena_bytes(const oe_model* model);

/* Per-op time of the runs since profiling was switched on: nanoseconds[n_ops], summed over runs. */
OE_API int32_t oe_model_profile(oe_model* model, int32_t enable);
OE_API int32_t oe_model_profile_read(const oe_model* model, uint64_t* nanoseconds, int32_t n_ops, uint64_t* runs);

/* For tests and microbenchmarks: run op `index` alone on the caller's buffers, `repeats` times.
 * buffers[b] points at buffer b of the program in panel layout, 64-byte aligned (ones the op does not use may be
 * NULL); sizes are the caller's duty. An Output op cannot be run alone. `nanoseconds` (of all repeats) may be NULL. */
OE_API int32_t oe_model_run_op(oe_model* model, int32_t index, const oe_batch* batch, void* const* buffers,
                               int32_t repeats, uint64_t* nanoseconds);

/* CRC-32 of `bytes` bytes as ZIP and zlib define it, to `crc`. OE_UNSUPPORTED where this CPU or library has no
 * instructions for it. Libraries older than this function are without it. */
OE_API int32_t oe_crc32(const void* data, uint64_t bytes, uint32_t* crc);

/* What one thread of this CPU can do at most with the instructions of an implementation, measured now (some 10 ms):
 * units per nanosecond, 0 where it is not known. A target's library may be without this function. */
enum {
  OE_PEAK_MULTIPLY_ADD = 0, /* 8-bit multiply-adds, from registers */
  OE_PEAK_SHUFFLE = 1,      /* bytes through a shuffle, from registers */
  OE_PEAK_FLOAT = 2,        /* float32 multiply-adds, from registers */
  OE_PEAK_ROW_GATHER = 3,   /* 8-bit multiply-adds of `parameter` rows (1, 2, 4) that share columns, from L1 */
  OE_PEAK_READ = 4,         /* bytes read of `parameter` bytes, over and over */
  OE_PEAK_WRITE = 5,        /* bytes written, likewise */
};
OE_API double oe_measure_peak(const char* implementation, int32_t what, int64_t parameter);

#ifdef __cplusplus
}
#endif
#endif
