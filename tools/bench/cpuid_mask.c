// Shows a program a CPU with AVX2 and without AVX-512, VNNI and AMX. tools/bench/baselines.py compiles it and names it
// in LD_PRELOAD, so that every engine of a case, whatever its own switches, runs the kernels it has for AVX2.
//
// Linux lets a thread ask for a fault at every CPUID instruction (arch_prctl, ARCH_SET_CPUID 0; flag cpuid_fault of
// /proc/cpuinfo). The handler runs the instruction itself, clears the bits, and steps over it. A new thread inherits
// the setting; a new program does not, and gets it from LD_PRELOAD again. What ran before this constructor (the dynamic
// loader's choice of memcpy) has seen the real CPU, which is the same for every engine.
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_SET_CPUID = 0x1012, CPUID_FAULTS = 0, CPUID_RUNS = 1 };

#define BIT(n) (1u << (n))

// The bits of leaf 7, register by register: AVX-512's F, DQ, IFMA, PF, ER, CD, BW and VL; its VBMI, VBMI2, VNNI, BITALG
// and VPOPCNTDQ; its 4VNNIW, 4FMAPS, VP2INTERSECT and FP16, and AMX.
static const uint32_t AVX512_EBX = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);
static const uint32_t AVX512_ECX = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
static const uint32_t AVX512_EDX = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25);

static void step_over_cpuid(int number, siginfo_t* info, void* context) {
  (void)info;
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  const uint8_t* instruction = (const uint8_t*)registers[REG_RIP];
  if (instruction[0] != 0x0f || instruction[1] != 0xa2) {
    signal(number, SIG_DFL);  // the program's own fault: it happens again, and now ends it
    return;
  }
  const uint32_t leaf = (uint32_t)registers[REG_RAX], part = (uint32_t)registers[REG_RCX];
  uint32_t a, b, c, d;
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, CPUID_RUNS);
  __cpuid_count(leaf, part, a, b, c, d);
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, CPUID_FAULTS);
  if (leaf == 7 && part == 0) {
    b &= ~AVX512_EBX;
    c &= ~AVX512_ECX;
    d &= ~AVX512_EDX;
  } else if (leaf == 7 && part == 1) {
    a &= ~(BIT(4) | BIT(5));  // AVX-VNNI, AVX512-BF16
    d = 0;                    // AVX-VNNI-INT8, AVX-NE-CONVERT, AVX-VNNI-INT16, AVX10
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void mask_cpuid(void) {
  struct sigaction action = {0};
  action.sa_sigaction = step_over_cpuid;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  static const char message[] = "cpuid_mask: this kernel or CPU cannot make CPUID fault\n";
  if (sigaction(SIGSEGV, &action, NULL) || syscall(SYS_arch_prctl, ARCH_SET_CPUID, CPUID_FAULTS)) {
    if (write(STDERR_FILENO, message, sizeof message - 1)) {
    }
    _exit(1);
  }
}
