"""From a float graph to a program; each pass is a pure function: fuse, first_token, quantize, pack, plan."""
