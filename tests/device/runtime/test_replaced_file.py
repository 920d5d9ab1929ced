"""A bundle that is overwritten in place, as ``cp`` and ``scp`` do, under a session that has it open."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import obert_edge
from obert_edge.bundle.container import Bundle, fill
from obert_edge.errors import BundleError

#: Loads a bundle, lets the test overwrite its file, and answers again. A crash would be this process's.
PROGRAM = """
import json, sys
import numpy as np
import obert_edge

session = obert_edge.load(sys.argv[1], threads=int(sys.argv[2]), implementation=sys.argv[3] or None)
ids = np.arange(1, 17, dtype=np.int32).reshape(2, 8)
before = session.run(ids)
print("loaded", flush=True)
sys.stdin.readline()
for _ in range(3):
    after = session.run(ids)
    assert all(after[name].tobytes() == before[name].tobytes() for name in before), "other answers"
session.predict("the film is good")
session.close()
print("done", flush=True)
"""


def overwrite(path, how, other):
    data = path.read_bytes()
    with path.open("r+b") as stream:  # the same file, as a copy over it writes
        if how == "truncated":
            stream.truncate(4096)
        elif how == "emptied":
            stream.truncate(0)
        elif how == "another bundle":
            stream.write(other.read_bytes())
            stream.truncate()
        elif how == "ones":
            stream.write(b"\xff" * len(data))
        else:
            for at in np.random.default_rng(0).integers(0, len(data), 400):
                stream.seek(int(at))
                stream.write(b"\x7f")


@pytest.mark.parametrize("implementation", ["", "scalar"])
@pytest.mark.parametrize("how", ["truncated", "emptied", "another bundle", "ones", "changed here and there"])
def test_a_live_session_goes_on_with_what_it_loaded(tmp_path, classifier, answerer, how, implementation):
    path = tmp_path / "model.oeb"
    path.write_bytes(classifier.read_bytes())
    words = [sys.executable, "-c", PROGRAM, str(path), "2", implementation]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n", process.communicate()[1]
        overwrite(path, how, answerer)
        out, err = process.communicate("go\n", timeout=60)
    assert (process.returncode, out) == (0, "done\n"), err


def test_a_file_that_ends_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "model.oeb"
    path.write_bytes(b"x" * 3_000_000)
    with path.open("rb") as stream, pytest.raises(BundleError, match="cut short while it was read"):
        fill(memoryview(bytearray(3_000_001)), stream.fileno(), path)


def test_what_a_bundle_hands_out_cannot_be_written(classifier):
    with Bundle.open(classifier) as bundle:
        assert bundle.weights.readonly
        assert bundle.weights.obj is not None


def test_the_memory_of_a_bundle_that_was_closed_lives_as_long_as_its_views(classifier):
    bundle = Bundle.open(classifier)
    weights = bundle.weights
    expected = bytes(weights[:100])
    bundle.close()
    assert bytes(weights[:100]) == expected
    assert json.dumps(bundle.manifest.task.labels)
    with obert_edge.load(classifier) as session:
        assert session.run([[1, 2, 3]])["logits"].shape == (1, 3)
