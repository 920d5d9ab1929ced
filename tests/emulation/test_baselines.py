"""ONNX Runtime's and LiteRT's own aarch64 wheels run the baselines on an emulated Pi, and agree with us."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from obert_edge.device.bench.baselines import get_baseline
from obert_edge.device.runtime.session import load
from tools.emulation.emulated import MACHINES

IDS = np.array([[2, 5, 7, 8, 10, 13, 3, 4]])

#: Arguments: the bundle (for its runner), then pairs of a baseline's name and its artifact.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from obert_edge.device.bench.baselines import get_baseline
ids = np.array(json.loads(sys.argv[2]))
found = {}
for name, artifact in zip(sys.argv[3::2], sys.argv[4::2]):
    run = get_baseline(name).load(Path(artifact), 1)
    found[name] = [value.tolist() for value in run(ids, np.ones_like(ids), np.zeros_like(ids))]
print(json.dumps(found))
"""


@pytest.mark.parametrize("machine", MACHINES[1:3], ids=lambda machine: machine.name)
def test_the_baselines_run_beside_ours(emulate, bundle_for, wheels, tmp_path, machine):
    names = ["onnxruntime-fp32", "onnxruntime-int8", "litert-fp32", "litert-int8"]
    bundle = bundle_for("x86")
    with load(bundle) as session:
        expected = session.run(input_ids=IDS)["logits"]
    artifacts: list[object] = []
    for name in names:
        folder: Path = tmp_path / name
        folder.mkdir()
        artifacts += [
            name,
            get_baseline(name).prepare(bundle, folder, batch_size=1, sequence_length=IDS.shape[1]),
        ]
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = [bundle_for("rpi"), json.dumps(IDS.tolist()), *artifacts]
    done = emulate(machine).run(tmp_path / "script.py", *arguments, packages=wheels)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == names
    for name in names:
        # 8-bit steps of a random model; what counts is that these wheels compute this model on this core
        np.testing.assert_allclose(
            np.array(found[name][0]), expected, atol=0.25 * np.abs(expected).max() + 0.05
        )
