"""Bundles on other machines: copied there whole, and measured or put in the place of an older one."""

from obert_edge.host.remote.bench import bench_devices
from obert_edge.host.remote.deployment import deploy, roll_back

__all__ = ["bench_devices", "deploy", "roll_back"]
