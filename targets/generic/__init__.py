"""The scalar kernels: docs/numerics.md in C++, the reference every other implementation is tested against."""
