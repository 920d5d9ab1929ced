"""What the engine costs, in time and memory, on its own and beside other engines."""
