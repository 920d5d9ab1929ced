"""The verbs a device knows: `verify`, `run`, `bench`, `inspect` and `doctor`."""
