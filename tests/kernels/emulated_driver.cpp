// Drives the C ABI of an engine library (obert_edge.h) on an emulated CPU, for tests/kernels/emulation.py: requests
// come on standard input, answers go to standard output. The only argument is the path of the library.
//
//   request: a letter and its fields                   answer: int64 status, a message, and
//     I                                                  a blob: the names of the implementations
//     O  implementation, program, weights (blobs),       nothing; the model stays open until the next O
//        threads, cache bytes (numbers)
//     R  op (number), batch, buffers                     the buffers after that op has run
//     X  batch, buffers (sized, content ignored)         the buffers, one per output, after the whole graph has run
//     C  bytes (blob)                                    a blob: their CRC-32, 4 bytes, or empty where the CPU has no
//                                                        instructions for it
//
// A number is an int64; a blob is an int64 length (-1: a null pointer) and its bytes. A batch is two numbers
// (sequences, tokens) and four blobs of int32 (starts, ids, positions, token types). Buffers are their number and as
// many blobs.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "obert_edge.h"

namespace {

// The functions of obert_edge.h that the driver calls, looked up by name because the library is loaded at run time.
#define FOR_EACH_FUNCTION(DO) \
  DO(oe_implementations)      \
  DO(oe_last_error)           \
  DO(oe_model_open)           \
  DO(oe_model_close)          \
  DO(oe_model_run)            \
  DO(oe_model_run_op)         \
  DO(oe_model_set_cache)      \
  DO(oe_crc32)

struct Functions {
#define DECLARE(name) decltype(&name) name##_;
  FOR_EACH_FUNCTION(DECLARE)
#undef DECLARE
};

constexpr int kMostBuffers = 64;

// Bytes of a request, in memory aligned to 64 bytes as the engine's buffers must be.
struct Blob {
  void* data = nullptr;
  int64_t bytes = -1;

  Blob() = default;
  Blob(const Blob&) = delete;
  Blob& operator=(const Blob&) = delete;
  ~Blob() { clear(); }

  void clear() {
    free(data);
    data = nullptr;
  }
};

void fail(const char* reason) {
  fprintf(stderr, "emulated_driver: %s\n", reason);
  exit(3);
}

void read_bytes(void* data, size_t bytes) {
  if (bytes && fread(data, 1, bytes, stdin) != bytes) fail("the request is truncated");
}
int64_t read_number() {
  int64_t value;
  read_bytes(&value, sizeof value);
  return value;
}
// Reads a blob. 64 zero bytes follow it, so that a kernel may load a vector that starts inside it.
void read_blob(Blob& blob) {
  blob.clear();
  blob.bytes = read_number();
  if (blob.bytes < 0) return;
  if (posix_memalign(&blob.data, 64, static_cast<size_t>(blob.bytes) + 64) != 0) fail("no memory");
  read_bytes(blob.data, static_cast<size_t>(blob.bytes));
  memset(static_cast<char*>(blob.data) + blob.bytes, 0, 64);
}

void write_blob(const void* data, int64_t bytes) {
  fwrite(&bytes, sizeof bytes, 1, stdout);
  if (bytes > 0) fwrite(data, 1, static_cast<size_t>(bytes), stdout);
}
void write_status(int64_t status, const char* message) {
  fwrite(&status, sizeof status, 1, stdout);
  write_blob(message, static_cast<int64_t>(strlen(message)));
}

// Answers a request R, or X where `whole` is set.
void run(const Functions& engine, oe_model* model, bool whole) {
  const int64_t op = whole ? 0 : read_number();
  oe_batch batch;
  Blob arrays[4], buffers[kMostBuffers];
  batch.sequences = static_cast<int32_t>(read_number());
  batch.tokens = static_cast<int32_t>(read_number());
  for (Blob& array : arrays) read_blob(array);
  batch.starts = static_cast<int32_t*>(arrays[0].data);
  batch.ids = static_cast<int32_t*>(arrays[1].data);
  batch.positions = static_cast<int32_t*>(arrays[2].data);
  batch.token_types = static_cast<int32_t*>(arrays[3].data);
  const int64_t count = read_number();
  if (count < 0 || count > kMostBuffers) fail("too many buffers");
  void* addresses[kMostBuffers];
  for (int64_t i = 0; i < count; ++i) {
    read_blob(buffers[i]);
    addresses[i] = buffers[i].data;
  }
  int32_t status;
  if (whole) {
    status =
        engine.oe_model_run_(model, &batch, reinterpret_cast<float* const*>(addresses), static_cast<int32_t>(count));
  } else {
    status = engine.oe_model_run_op_(model, static_cast<int32_t>(op), &batch, addresses, 1, nullptr);
  }
  write_status(status, status ? engine.oe_last_error_() : "");
  for (int64_t i = 0; i < count; ++i) write_blob(buffers[i].data, buffers[i].bytes);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) fail("usage: emulated_driver LIBRARY");
  void* library = dlopen(argv[1], RTLD_NOW);
  if (!library) fail(dlerror());
  Functions engine;
#define LOOK_UP(name) engine.name##_ = reinterpret_cast<decltype(&name)>(dlsym(library, #name));
  FOR_EACH_FUNCTION(LOOK_UP)
#undef LOOK_UP
  oe_model* model = nullptr;
  Blob program, weights;
  for (int letter; (letter = getchar()) != EOF;) {
    if (letter == 'I') {
      write_status(0, "");
      write_blob(engine.oe_implementations_(), static_cast<int64_t>(strlen(engine.oe_implementations_())));
    } else if (letter == 'O') {
      if (model) engine.oe_model_close_(model);
      Blob name;
      read_blob(name);
      read_blob(program);
      read_blob(weights);
      const int32_t threads = static_cast<int32_t>(read_number());
      model = engine.oe_model_open_(program.data, static_cast<uint64_t>(program.bytes), weights.data,
                                    static_cast<uint64_t>(weights.bytes), threads, static_cast<char*>(name.data));
      const uint64_t cache = static_cast<uint64_t>(read_number());
      if (model) engine.oe_model_set_cache_(model, cache);
      write_status(model ? 0 : 1, model ? "" : engine.oe_last_error_());
    } else if ((letter == 'R' || letter == 'X') && model) {
      run(engine, model, letter == 'X');
    } else if (letter == 'C') {
      Blob data;
      read_blob(data);
      uint32_t crc;
      const int32_t status = engine.oe_crc32_(data.data, static_cast<uint64_t>(data.bytes), &crc);
      write_status(0, "");
      write_blob(&crc, status == OE_OK ? sizeof crc : 0);
    } else {
      fail("the request starts with none of the letters I, O, R, X and C, or no model is open");
    }
    fflush(stdout);
  }
  return 0;
}
