"""The C++ engine: sources, and under `lib/` the compiled library of every target."""
