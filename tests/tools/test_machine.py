"""What a results page says of the machine is what its readers know to look for."""

from __future__ import annotations

import os
import shutil
import subprocess

from obert_edge.device.runtime import machine
from tools.machine import speed_facts, training_facts


def test_a_training_run_names_the_processor_and_the_versions():
    facts = training_facts()
    assert set(facts) == {"cpu", "cores", "python", "torch", "transformers"}
    assert facts["cpu"] == machine.cpu_model()


def test_a_measurement_names_memory_kernel_and_compiler():
    facts = speed_facts()
    assert facts["kernel"] == os.uname().release
    assert facts["memory"].endswith(" GiB")
    assert facts["compiler"].startswith("zig c++ (ziglang ")


def test_a_measurement_names_the_family_of_the_processor_where_lscpu_does():
    shown = ""
    if shutil.which("lscpu"):
        environment = {**os.environ, "LC_ALL": "C"}
        shown = subprocess.run(["lscpu"], capture_output=True, text=True, env=environment).stdout
    assert ("CPU family" in speed_facts()) == ("CPU family:" in shown)
