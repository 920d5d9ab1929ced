// What the vector headers and kernels of every instruction set are written with.
#ifndef OBERT_EDGE_SIMD_MACROS_H
#define OBERT_EDGE_SIMD_MACROS_H

// Vectors are passed in registers, never through memory.
#define OE_INLINE static inline __attribute__((always_inline))
#define OE_INLINE_LAMBDA __attribute__((always_inline))
#define OE_NOINLINE static __attribute__((noinline))

// Keeps an integer in a scalar register: clang's SLP vectorizer would compute four addresses in a vector and extract
// them again, on the ports the kernel is bound by.
#define OE_SCALAR(integer) __asm__("" : "+r"(integer))

// Before a loop over an array of vectors: unrolled, the array is in registers.
#if defined(__clang__)
#define OE_UNROLL _Pragma("clang loop unroll(full)")
#define OE_UNROLL_2 _Pragma("clang loop unroll_count(2)")  // of a loop over memory: fewer instructions per step
#define OE_UNROLL_4 _Pragma("clang loop unroll_count(4)")
#else
#define OE_UNROLL _Pragma("GCC unroll 64")
#define OE_UNROLL_2 _Pragma("GCC unroll 2")
#define OE_UNROLL_4 _Pragma("GCC unroll 4")
#endif

#endif
