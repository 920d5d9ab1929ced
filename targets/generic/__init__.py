"""The scalar kernels: docs/reference/numerics.md in C++, which all other kernels are tested against."""
