"""The scalar kernels: docs/reference/numerics.md in C++, which every other implementation is tested against."""
