"""The roofline: the work of every op, the peaks of a machine, and what both say of the time."""
