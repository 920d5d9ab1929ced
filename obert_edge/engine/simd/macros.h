// Compiler directives that the vector headers and kernels of every instruction set are written with.
#ifndef OBERT_EDGE_SIMD_MACROS_H
#define OBERT_EDGE_SIMD_MACROS_H

// Functions that take or return vectors are always inlined, so that vectors stay in registers.
#define OE_INLINE static inline __attribute__((always_inline))
#define OE_INLINE_LAMBDA __attribute__((always_inline))
#define OE_NOINLINE static __attribute__((noinline))

// Keeps an integer in a scalar register. Without it clang's SLP vectorizer computes four addresses in one vector and
// extracts them again, on the execution ports that the kernels are bound by.
#define OE_SCALAR(integer) __asm__("" : "+r"(integer))

// Stands before a loop over an array of vectors: only when the loop is unrolled are the elements in registers.
#if defined(__clang__)
#define OE_UNROLL _Pragma("clang loop unroll(full)")
#define OE_UNROLL_2 _Pragma("clang loop unroll_count(2)")  // before a loop over memory: fewer loop instructions
#define OE_UNROLL_4 _Pragma("clang loop unroll_count(4)")
#else
#define OE_UNROLL _Pragma("GCC unroll 64")
#define OE_UNROLL_2 _Pragma("GCC unroll 2")
#define OE_UNROLL_4 _Pragma("GCC unroll 4")
#endif

#endif
