// Lends a process the AVX-VNNI instructions on an x86-64 CPU with AVX2 that lacks them, for tests/kernels/trap.py.
//
// Loaded by LD_AUDIT, which makes the dynamic loader show every library before its constructors run. Two things are
// done then:
//
//   * In an engine library, the CPUID instructions become UD2. Each has the two bytes of the other, so that nothing
//     moves. Their answer then comes from the handler below, which adds the bit of AVX-VNNI to what the CPU says. The
//     library's file and its dispatch are those that are shipped.
//   * SIGILL is handled: UD2 at such a place as said, and VPDPBUSD, VPDPBUSDS, VPDPWSSD and VPDPWSSDS in their VEX
//     encoding by computing on the registers that the signal saved, and stepping over. Whatever else raises SIGILL ends
//     the process as it would have without us.
//
// The encodings are those of Intel's Software Developer's Manual, volume 2 (VEX prefix: 2.3; addressing: 2.1.5; the
// instructions: under VPDPBUSD), the layout of the saved registers that of volume 1, chapter 13 (XSAVE).
#include <asm/prctl.h>
#include <cpuid.h>
#include <elf.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

namespace {

// ---- The registers that a signal saved

constexpr int kVectors = 16;       // a VEX prefix reaches no more
constexpr size_t kHalf = 16;       // bytes of an xmm register, and of the upper half of a ymm register
constexpr size_t kXmmAt = 160;     // in the legacy area
constexpr size_t kHeaderAt = 512;  // of the XSAVE area: the components that are not in their initial state
constexpr uint64_t kSse = 1 << 1, kUpperHalves = 1 << 2, kUpperZmm = 1 << 6;

// Where XSAVE puts the upper halves of ymm0-15, and bytes 32 to 63 of zmm0-15 (0: the CPU has none).
uint32_t upper_halves_at = 0, upper_zmm_at = 0;

// General registers by their number in an instruction.
constexpr int kGeneral[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

class Registers {
 public:
  explicit Registers(ucontext_t* context)
      : context_(context), area_(reinterpret_cast<uint8_t*>(context->uc_mcontext.fpregs)) {
    // A component that is not marked has its initial value, zero, whatever lies in its place.
    uint64_t* marked = reinterpret_cast<uint64_t*>(area_ + kHeaderAt);
    if (!(*marked & kSse)) memset(area_ + kXmmAt, 0, kVectors * kHalf);
    if (!(*marked & kUpperHalves)) memset(area_ + upper_halves_at, 0, kVectors * kHalf);
    *marked |= kSse | kUpperHalves;
    has_zmm_ = upper_zmm_at && *marked & kUpperZmm;
  }

  uint64_t general(int number) const { return static_cast<uint64_t>(context_->uc_mcontext.gregs[kGeneral[number]]); }
  uint64_t next() const { return static_cast<uint64_t>(context_->uc_mcontext.gregs[REG_RIP]); }
  void go_to(uint64_t address) { context_->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(address); }
  void set_general(int number, uint64_t value) {
    context_->uc_mcontext.gregs[kGeneral[number]] = static_cast<greg_t>(value);
  }

  void load(int number, uint8_t* bytes) const {
    memcpy(bytes, low(number), kHalf);
    memcpy(bytes + kHalf, high(number), kHalf);
  }

  // An instruction with a VEX prefix clears what lies above the bytes it writes.
  void store(int number, const uint8_t* bytes, size_t count) {
    memset(high(number), 0, kHalf);
    if (has_zmm_) memset(area_ + upper_zmm_at + 2 * kHalf * static_cast<size_t>(number), 0, 2 * kHalf);
    memcpy(low(number), bytes, kHalf);
    if (count > kHalf) memcpy(high(number), bytes + kHalf, kHalf);
  }

 private:
  uint8_t* low(int number) const { return area_ + kXmmAt + kHalf * static_cast<size_t>(number); }
  uint8_t* high(int number) const { return area_ + upper_halves_at + kHalf * static_cast<size_t>(number); }

  ucontext_t* context_;
  uint8_t* area_;
  bool has_zmm_;
};

// ---- The instructions

enum class Product : uint8_t { Bytes = 0x50, BytesSaturating = 0x51, Words = 0x52, WordsSaturating = 0x53 };

struct Instruction {
  Product product;
  size_t bytes;       // of the vectors: 16 or 32
  int target, first;  // registers: the sums, and the first factors (unsigned where they are bytes)
  int second;         // the register of the second factors; -1: they are at `address`
  uint64_t address;
  uint64_t end;  // where the next instruction is
};

// The address of a memory operand; moves `at` behind its bytes.
struct Operand {
  const uint8_t* at;
  uint8_t mode, low;            // fields mod and r/m of the ModRM byte
  bool base_high, index_high;   // the fourth bits of the registers' numbers
  bool of_instruction = false;  // relative to the next instruction
  uint64_t address = 0;

  void read(const Registers& registers) {
    int64_t displacement = 0;
    bool wide = mode == 2;
    if (low == 4) {
      const uint8_t sib = *at++;
      const int base = (sib & 7) | base_high << 3, index = (sib >> 3 & 7) | index_high << 3;
      if (index != 4) address += registers.general(index) << (sib >> 6);
      if ((sib & 7) == 5 && mode == 0) {
        wide = true;
      } else {
        address += registers.general(base);
      }
    } else if (low == 5 && mode == 0) {
      of_instruction = wide = true;
    } else {
      address += registers.general(low | base_high << 3);
    }
    if (wide) {
      int32_t value;
      memcpy(&value, at, sizeof value);
      displacement = value;
      at += sizeof value;
    } else if (mode == 1) {
      displacement = static_cast<int8_t>(*at++);
    }
    address += static_cast<uint64_t>(displacement);
  }
};

uint64_t segment_base(int what) {
  uint64_t base = 0;
  syscall(SYS_arch_prctl, what, &base);
  return base;
}

// Reads the instruction at `start`. False when it is none of ours.
bool decode(uint64_t start, const Registers& registers, Instruction* found) {
  const uint8_t* at = reinterpret_cast<const uint8_t*>(start);
  int segment = 0;
  bool short_addresses = false;
  for (bool prefix = true; prefix;) {
    switch (*at) {
      case 0x64:
        segment = ARCH_GET_FS;
        break;
      case 0x65:
        segment = ARCH_GET_GS;
        break;
      case 0x67:
        short_addresses = true;
        break;
      case 0x26:
      case 0x2E:
      case 0x36:
      case 0x3E:
        break;  // segments without a base
      default:
        prefix = false;
        continue;
    }
    ++at;
  }
  // C4; inverted R, X, B and the opcode map; W, inverted first source, length and the implied prefix.
  if (at[0] != 0xC4 || (at[1] & 0x1F) != 2 || (at[2] & 0x83) != 1) return false;
  if (at[3] < 0x50 || at[3] > 0x53) return false;
  const bool high_target = !(at[1] & 0x80), high_index = !(at[1] & 0x40), high_base = !(at[1] & 0x20);
  const uint8_t modrm = at[4];
  found->product = static_cast<Product>(at[3]);
  found->bytes = at[2] & 4 ? 2 * kHalf : kHalf;
  found->first = ~at[2] >> 3 & 15;
  found->target = (modrm >> 3 & 7) | high_target << 3;
  at += 5;
  if (modrm >> 6 == 3) {
    found->second = (modrm & 7) | high_base << 3;
  } else {
    found->second = -1;
    Operand operand{at, static_cast<uint8_t>(modrm >> 6), static_cast<uint8_t>(modrm & 7), high_base, high_index};
    operand.read(registers);
    at = operand.at;
    found->address = operand.address + (operand.of_instruction ? reinterpret_cast<uint64_t>(at) : 0);
    if (short_addresses) found->address &= 0xFFFFFFFFu;
    if (segment) found->address += segment_base(segment);
  }
  found->end = reinterpret_cast<uint64_t>(at);
  return true;
}

int32_t wrapped(int64_t sum) { return static_cast<int32_t>(static_cast<uint64_t>(sum)); }
int32_t saturated(int64_t sum) {
  return sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : static_cast<int32_t>(sum);
}

// One 32-bit lane: the sum plus its four products of bytes, or its two of words.
int32_t lane(Product product, int32_t sum, const uint8_t* first, const uint8_t* second) {
  int64_t total = sum;
  if (product == Product::Bytes || product == Product::BytesSaturating) {
    for (int i = 0; i < 4; ++i) total += int64_t{first[i]} * static_cast<int8_t>(second[i]);
  } else {
    int16_t a[2], b[2];
    memcpy(a, first, sizeof a);
    memcpy(b, second, sizeof b);
    for (int i = 0; i < 2; ++i) total += int64_t{a[i]} * b[i];
  }
  const bool saturates = product == Product::BytesSaturating || product == Product::WordsSaturating;
  return saturates ? saturated(total) : wrapped(total);
}

void execute(const Instruction& instruction, Registers* registers) {
  uint8_t sums[2 * kHalf], first[2 * kHalf], second[2 * kHalf];
  registers->load(instruction.target, sums);
  registers->load(instruction.first, first);
  if (instruction.second >= 0) {
    registers->load(instruction.second, second);
  } else {
    memcpy(second, reinterpret_cast<const void*>(instruction.address), instruction.bytes);
  }
  for (size_t at = 0; at < instruction.bytes; at += 4) {
    int32_t sum;
    memcpy(&sum, sums + at, sizeof sum);
    sum = lane(instruction.product, sum, first + at, second + at);
    memcpy(sums + at, &sum, sizeof sum);
  }
  registers->store(instruction.target, sums, instruction.bytes);
}

// ---- CPUID

constexpr int kMostPlaces = 64;
uint64_t cpuid_places[kMostPlaces];  // where a CPUID was
int cpuid_count = 0;

bool was_cpuid(uint64_t address) {
  for (int i = 0; i < cpuid_count; ++i) {
    if (cpuid_places[i] == address) return true;
  }
  return false;
}

// What CPUID says, and that there is AVX-VNNI: bit 4 of EAX of subleaf 1 of leaf 7.
void answer_cpuid(Registers* registers) {
  const auto leaf = static_cast<uint32_t>(registers->general(0)),
             subleaf = static_cast<uint32_t>(registers->general(1));
  uint32_t words[4];  // eax, ecx, edx, ebx: by their numbers as registers
  __cpuid_count(leaf, subleaf, words[0], words[3], words[1], words[2]);
  if (leaf == 7 && subleaf == 0 && words[0] < 1) words[0] = 1;  // there is a subleaf 1
  if (leaf == 7 && subleaf == 1) words[0] |= 1u << 4;
  for (int number = 0; number < 4; ++number) registers->set_general(number, words[number]);
}

// ---- The handler

uint64_t executed = 0;
bool counts = false;

void handle(int, siginfo_t*, void* context) {
  Registers registers(static_cast<ucontext_t*>(context));
  const uint64_t start = registers.next();
  if (was_cpuid(start)) {
    answer_cpuid(&registers);
    registers.go_to(start + 2);
    return;
  }
  // Kernels have them in rows, and a signal for each would take most of the time.
  Instruction instruction;
  uint64_t at = start;
  for (; decode(at, registers, &instruction); at = instruction.end) {
    execute(instruction, &registers);
    if (counts) __atomic_add_fetch(&executed, 1, __ATOMIC_RELAXED);
  }
  registers.go_to(at);
  if (at != start) return;
  // None of ours: it is executed again, and ends the process.
  struct sigaction as_without_us = {};
  as_without_us.sa_handler = SIG_DFL;
  sigaction(SIGILL, &as_without_us, nullptr);
}

// ---- Libraries

// Whether a library's dynamic symbols name oe_abi_version, which every engine library has.
bool is_engine(const link_map& map) {
  const char* strings = nullptr;
  size_t bytes = 0;
  for (const ElfW(Dyn)* entry = map.l_ld; entry && entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_STRTAB) {
      const uint64_t value = entry->d_un.d_ptr;  // the loader may have made it an address already
      strings = reinterpret_cast<const char*>(value < map.l_addr ? value + map.l_addr : value);
    }
    if (entry->d_tag == DT_STRSZ) bytes = entry->d_un.d_val;
  }
  constexpr char kName[] = "oe_abi_version";
  return strings && memmem(strings, bytes, kName, sizeof kName);
}

// Replaces each CPUID of a part of a library. A compiler keeps rbx by exchanging it with the same register before and
// behind: those bytes on both sides tell the instruction from two bytes of another one.
bool replace_cpuids(uint8_t* begin, size_t bytes) {
  constexpr size_t kExchange = 3;
  if (mprotect(begin, bytes, PROT_READ | PROT_WRITE) != 0) return false;
  for (size_t at = kExchange; at + 2 + kExchange <= bytes; ++at) {
    uint8_t* code = begin + at;
    if (code[0] != 0x0F || code[1] != 0xA2 || code[-2] != 0x87) continue;
    if (memcmp(code - kExchange, code + 2, kExchange) != 0 || cpuid_count == kMostPlaces) continue;
    code[1] = 0x0B;
    cpuid_places[cpuid_count++] = reinterpret_cast<uint64_t>(code);
  }
  return mprotect(begin, bytes, PROT_READ | PROT_EXEC) == 0;
}

void show_engine(const link_map& map) {
  constexpr uint64_t kPage = 4096;
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(map.l_addr);
  const auto* parts = reinterpret_cast<const ElfW(Phdr)*>(map.l_addr + header->e_phoff);
  for (int i = 0; i < header->e_phnum; ++i) {
    if (parts[i].p_type != PT_LOAD || !(parts[i].p_flags & PF_X)) continue;
    const uint64_t begin = (map.l_addr + parts[i].p_vaddr) / kPage * kPage;
    const uint64_t end = map.l_addr + parts[i].p_vaddr + parts[i].p_memsz;
    if (!replace_cpuids(reinterpret_cast<uint8_t*>(begin), (end + kPage - 1) / kPage * kPage - begin)) abort();
  }
}

}  // namespace

extern "C" {

// ---- What the loader calls (man 7 rtld-audit)

__attribute__((visibility("default"))) unsigned la_version(unsigned version) {
  uint32_t eax, ecx, edx;
  __cpuid_count(0xD, 2, eax, upper_halves_at, ecx, edx);
  uint32_t bytes;
  __cpuid_count(0xD, 6, bytes, upper_zmm_at, ecx, edx);
  if (bytes == 0) upper_zmm_at = 0;
  counts = getenv("AVXVNNI_TRAP_COUNT") != nullptr;
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, nullptr);
  return version;
}

__attribute__((visibility("default"))) unsigned la_objopen(link_map* map, Lmid_t, uintptr_t*) {
  if (is_engine(*map)) show_engine(*map);
  return 0;
}

// Says how many instructions were executed, on the descriptor that the variable names.
__attribute__((destructor)) static void say_count() {
  if (!counts) return;
  char text[32];
  size_t at = sizeof text;
  text[--at] = '\n';
  for (uint64_t left = executed; at > 0 && (left || at == sizeof text - 1); left /= 10) {
    text[--at] = static_cast<char>('0' + left % 10);
  }
  const ssize_t written = write(atoi(getenv("AVXVNNI_TRAP_COUNT")), text + at, sizeof text - at);
  (void)written;
}

}  // extern "C"
