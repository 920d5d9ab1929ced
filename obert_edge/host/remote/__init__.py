"""Measuring on other machines from this one: copy a bundle there, run it, bring the report back."""

from obert_edge.host.remote.bench import bench_devices

__all__ = ["bench_devices"]
