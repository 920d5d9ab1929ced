"""Measuring the engine beside its baselines, every one in a process of its own."""
