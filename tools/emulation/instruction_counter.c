// A QEMU plugin that counts the instructions a program executes. tools/emulation/count_instructions.py compiles and
// loads it.
//
//   -plugin instruction_counter.so,marker=NUMBER,output=PATH
//
// Whenever the program makes system call NUMBER, the instructions executed so far are appended
// to PATH as a line. So a program marks the stretches it wants counted, and start-up and loading do not matter.
//
// The declarations are those of QEMU's plugin API (include/qemu/qemu-plugin.h; "QEMU TCG Plugins" of its manual),
// written down here because Debian's qemu-user brings no header. PLUGIN_VERSION is 1 up to QEMU 8, else 2.
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
#if PLUGIN_VERSION == 1
enum { ADD_U64 = 0 };
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb* block, int operation, void* address,
                                              uint64_t value);
#else
typedef void block_executed(unsigned int cpu, void* data);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb* block, block_executed* function, int flags,
                                          void* data);
#endif
typedef void block_translated(plugin_id id, struct qemu_plugin_tb* block);
typedef void system_call(plugin_id id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                         uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* block);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, block_translated* function);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id id, system_call* function);

// QEMU takes plugins of a range of versions; the rest of what is used here is in all of them.
EXPORT int qemu_plugin_version = PLUGIN_VERSION;

static uint64_t instructions;
static int64_t marker = -1;
static FILE* output;

// A block of instructions that a signal cuts short counts whole. Version 1 adds in line, which is fast but not atomic,
// and so right for a program of one thread alone.
#if PLUGIN_VERSION == 1
static void translated(plugin_id id, struct qemu_plugin_tb* block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &instructions, qemu_plugin_tb_n_insns(block));
}
#else
static void count(unsigned int cpu, void* data) {
  (void)cpu;
  __atomic_fetch_add(&instructions, (uint64_t)(uintptr_t)data, __ATOMIC_RELAXED);
}
static void translated(plugin_id id, struct qemu_plugin_tb* block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(block, count, 0, (void*)(uintptr_t)qemu_plugin_tb_n_insns(block));
}
#endif

static void called(plugin_id id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                   uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)cpu, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != marker) return;
  fprintf(output, "%" PRIu64 "\n", __atomic_load_n(&instructions, __ATOMIC_RELAXED));
  fflush(output);
}

EXPORT int qemu_plugin_install(plugin_id id, const void* info, int count_of_arguments, char** arguments) {
  (void)info;
  for (int i = 0; i < count_of_arguments; ++i) {
    if (strncmp(arguments[i], "marker=", 7) == 0) marker = atoll(arguments[i] + 7);
    if (strncmp(arguments[i], "output=", 7) == 0) output = fopen(arguments[i] + 7, "a");
  }
  if (marker < 0 || !output) {
    fprintf(stderr, "instruction_counter: marker=NUMBER and output=PATH (one that can be written) are needed\n");
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  return 0;
}
