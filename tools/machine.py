"""What a published number says about the machine it was measured on.

:mod:`obert_edge.device.runtime.machine` reads the facts that matter on a device; here is what a reader of a
results page wants besides: cache sizes, and the versions that decide how a training run ends.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from typing import Any, Dict

from obert_edge.device.runtime import machine

#: Lines of ``lscpu`` that decide about speed.
_LSCPU = (
    "Model name",
    "CPU family",  # tells AMD's generations apart, which are all called EPYC here
    "CPU(s)",
    "Thread(s) per core",
    "L1d cache",
    "L2 cache",
    "L3 cache",
    "Hypervisor vendor",
)


def training_facts() -> Dict[str, Any]:
    """The processor and the versions that a training run depends on, for a JSON file of results."""
    import torch
    import transformers

    return {
        "cpu": machine.cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def speed_facts() -> Dict[str, str]:
    """What decides about speed and is not in a benchmark's own report: caches, memory, kernel, compiler."""
    facts: Dict[str, str] = {}
    if shutil.which("lscpu"):
        environment = {**os.environ, "LC_ALL": "C"}
        shown = subprocess.run(["lscpu"], capture_output=True, text=True, check=True, env=environment).stdout
        pairs = (line.partition(":")[::2] for line in shown.splitlines())
        facts.update({key.strip(): value.strip() for key, value in pairs if key.strip() in _LSCPU})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts["memory"] = f"{memory / 2**30:.1f} GiB"
    facts["kernel"] = os.uname().release
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        facts["compiler"] = f"zig c++ (ziglang {importlib.metadata.version('ziglang')})"
    return facts
