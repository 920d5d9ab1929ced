"""The scalar kernels: docs/reference/numerics.md in C++, the reference every other implementation is tested against."""
