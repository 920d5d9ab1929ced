"""LiteRT's and tflite-runtime's own ARM wheels run our op by our delegate on an emulated Pi, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obert_edge.device.export.tflite_models import write_encoder_tflite
from obert_edge.device.runtime.session import load
from tools.emulation.debian import UnavailableError
from tools.emulation.emulated import MACHINES, PI_32_BIT, Machine, site_packages

BATCHES: tuple[Any, ...] = ([[2, 5, 7, 8, 3]], [[2, 5, 7, 8, 10, 13, 3], [2, 6, 3, 0, 0, 0, 0]])

#: Arguments: the bundle (its runner and engine are used), the model, batches of ids, then pairs: a runtime's
#: name and the folder of its package. Loading runs the cases.
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from obert_edge.device.runtime import tflite
for name, folder in zip(sys.argv[4::2], sys.argv[5::2]):
    sys.path.append(folder)
    tflite._RUNTIMES = (name,)
    run = tflite.load_tflite(sys.argv[2], threads=2)
    for ids in map(np.array, json.loads(sys.argv[3])):
        results = run(ids, (ids != 0).astype(int), np.zeros_like(ids))
        print(json.dumps([name, [value.view(np.uint32).tolist() for value in results]]))
"""


@pytest.fixture(scope="session")
def old_wheels():
    """A function: an architecture to a folder with the last tflite-runtime for it."""

    def fetch(architecture: str) -> Path:
        try:
            return site_packages(["tflite-runtime==2.14.0"], architecture)
        except UnavailableError as reason:
            pytest.skip(f"no {architecture} wheel of tflite-runtime: {reason}")

    return fetch


@pytest.mark.parametrize(
    ("machine", "target", "runtimes"),
    [
        (MACHINES[1], "rpi", ["ai_edge_litert", "tflite_runtime"]),
        (PI_32_BIT, "armhf", ["tflite_runtime"]),  # the only one there ever was for 32-bit ARM
    ],
    ids=["pi4", "pi2"],
)
def test_the_delegate_gives_a_sessions_bits(
    emulate, bundle_for, wheels, old_wheels, tmp_path, machine: Machine, target: str, runtimes: list[str]
):
    model = write_encoder_tflite(bundle_for(target), tmp_path / "model.obert-edge.tflite")
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = [tmp_path / "script.py", bundle_for(target), model, json.dumps(BATCHES)]
    for name in runtimes:
        arguments += [name, wheels if name == "ai_edge_litert" else old_wheels(machine.architecture)]
    done = emulate(machine).run(*arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = []
    with load(bundle_for("x86")) as session:
        for ids in map(np.array, BATCHES):
            logits = session.run(ids, (ids != 0).astype(int), np.zeros_like(ids))["logits"]
            expected.append([logits.view(np.uint32).tolist()])
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [[name, bits] for name in runtimes for bits in expected]
