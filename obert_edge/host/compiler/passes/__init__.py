"""Graph to program: fuse, quantize, pack, plan; each a pure function of its input."""
