// A QEMU plugin that lets a program's loads and stores pass through modeled caches. tools/emulation/model_tiles.py
// compiles and loads it.
//
//   -plugin cache_counter.so,marker=NUMBER,output=PATH,l1=BYTES:WAYS,l2=BYTES:WAYS
//
// Whenever the program makes system call NUMBER, a line "instructions loads-and-stores l1-misses l2-misses
// written-back" is appended to PATH, counted from the first such call, before which the caches are empty.
// A cache has lines of 64 bytes, replaces the least recently used, fetches a line that is stored to, and writes it back
// when it is replaced. The caches are not shared, which is right for a program of one thread. There is no prefetching,
// and instructions are not fetched through them.
//
// The declarations are those of QEMU's plugin API (include/qemu/qemu-plugin.h), as in instruction_counter.c.
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint32_t memory_info;
typedef void block_translated(plugin_id id, struct qemu_plugin_tb* block);
typedef void block_executed(unsigned int cpu, void* data);
typedef void memory_accessed(unsigned int cpu, memory_info info, uint64_t address, void* data);
typedef void system_call(plugin_id id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                         uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);
enum { NO_REGISTERS = 0, READS_AND_WRITES = 3 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* block);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb* block, size_t index);
bool qemu_plugin_mem_is_store(memory_info info);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, block_translated* function);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb* block, block_executed* function, int flags,
                                          void* data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn* instruction, memory_accessed* function, int flags,
                                      int which, void* data);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id id, system_call* function);

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

enum { LINE_SHIFT = 6, MOST_WAYS = 32 };

struct line {
  uint64_t address;  // the line's address shifted left by one, plus 1; 0 where there is no line
  bool dirty;
};
// The ways of a set lie in the order of their use, latest first.
struct cache {
  struct line* lines;
  uint64_t sets, misses, written_back;
  int ways;
};

static struct cache l1, l2;
static uint64_t instructions, accesses;
static int64_t marker = -1;
static FILE* output;
static bool counting;

static bool make_cache(struct cache* cache, const char* size) {
  char* ways = NULL;
  const uint64_t bytes = strtoull(size, &ways, 10);
  if (*ways != ':') return false;
  cache->ways = atoi(ways + 1);
  if (cache->ways < 1 || cache->ways > MOST_WAYS) return false;
  cache->sets = (bytes >> LINE_SHIFT) / (uint64_t)cache->ways;
  if (cache->sets == 0) return false;
  cache->lines = calloc(cache->sets * (uint64_t)cache->ways, sizeof *cache->lines);
  return cache->lines;
}

// Returns whether the cache held the line. It holds it afterward, and `replaced` is the line that made room.
static bool touch(struct cache* cache, uint64_t address, bool store, struct line* replaced) {
  struct line* set = cache->lines + address % cache->sets * (uint64_t)cache->ways;
  const uint64_t wanted = address << 1 | 1;
  int way = 0;
  while (way < cache->ways - 1 && set[way].address != wanted) ++way;
  const bool hit = set[way].address == wanted;
  *replaced = set[way];
  const struct line latest = {wanted, (hit && set[way].dirty) || store};
  memmove(set + 1, set, (size_t)way * sizeof *set);
  set[0] = latest;
  cache->misses += !hit;
  return hit;
}

static void accessed(unsigned int cpu, memory_info info, uint64_t address, void* data) {
  (void)cpu, (void)data;
  if (!counting) return;
  struct line replaced, dropped;
  ++accesses;
  if (touch(&l1, address >> LINE_SHIFT, qemu_plugin_mem_is_store(info), &replaced)) return;
  if (replaced.address && replaced.dirty) {
    touch(&l2, replaced.address >> 1, true, &dropped);
    l2.written_back += dropped.address && dropped.dirty && dropped.address != replaced.address;
  }
  if (!touch(&l2, address >> LINE_SHIFT, false, &dropped)) l2.written_back += dropped.address && dropped.dirty;
}

static void executed(unsigned int cpu, void* data) {
  (void)cpu;
  if (counting) instructions += (uint64_t)(uintptr_t)data;
}

static void translated(plugin_id id, struct qemu_plugin_tb* block) {
  (void)id;
  const size_t count = qemu_plugin_tb_n_insns(block);
  qemu_plugin_register_vcpu_tb_exec_cb(block, executed, NO_REGISTERS, (void*)(uintptr_t)count);
  for (size_t i = 0; i < count; ++i) {
    qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(block, i), accessed, NO_REGISTERS, READS_AND_WRITES, NULL);
  }
}

static void called(plugin_id id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                   uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)cpu, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != marker) return;
  counting = true;
  fprintf(output, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", instructions, accesses, l1.misses,
          l2.misses, l2.written_back);
  fflush(output);
}

EXPORT int qemu_plugin_install(plugin_id id, const void* info, int count_of_arguments, char** arguments) {
  (void)info;
  bool sized = true;
  for (int i = 0; i < count_of_arguments; ++i) {
    if (strncmp(arguments[i], "marker=", 7) == 0) marker = atoll(arguments[i] + 7);
    if (strncmp(arguments[i], "output=", 7) == 0) output = fopen(arguments[i] + 7, "a");
    if (strncmp(arguments[i], "l1=", 3) == 0) sized &= make_cache(&l1, arguments[i] + 3);
    if (strncmp(arguments[i], "l2=", 3) == 0) sized &= make_cache(&l2, arguments[i] + 3);
  }
  if (marker < 0 || !output || !sized || !l1.lines || !l2.lines) {
    fprintf(stderr, "cache_counter: marker=NUMBER, output=PATH, l1=BYTES:WAYS and l2=BYTES:WAYS are needed\n");
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  return 0;
}
