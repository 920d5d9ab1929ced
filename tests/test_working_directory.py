"""Whatever of ours is started in a folder, nothing of that folder is run, imported or read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

import httpx
import pytest

from obert_edge import cli
from tests.device.bundles import make_bundle
from tests.host.hub.fake_hub import TOKEN, running_hub
from tests.host.remote.conftest import device  # noqa: F401
from tests.host.stages.conftest import data, encoder  # noqa: F401
from tests.hostile import SCRIPT, Hostile, environment

ROOT = Path(__file__).resolve().parents[1]
FEW_STEPS = {"max_steps": 2, "max_length": 16, "batch_size": 16}
SHORT = ("--iterations", "1", "--sequence-length", "8")


@pytest.fixture
def hostile(tmp_path: Path) -> Hostile:
    return Hostile(tmp_path)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = {0: "bad", 1: "good"}
    folder = tmp_path_factory.mktemp("model")
    return make_bundle(folder, "BertForSequenceClassification", num_labels=2, id2label=names)


def run_there(hostile: Hostile, commands: Sequence[Sequence[object]], **variables: str) -> Dict[str, Any]:
    """Run command lines in the folder, one after the other in one process of Python."""
    beside = hostile.folder.parent / "beside"
    beside.mkdir()
    (beside / "script.py").write_text(SCRIPT)
    (beside / "commands.json").write_text(json.dumps([list(map(str, words)) for words in commands]))
    done = subprocess.run(
        [sys.executable, beside / "script.py", beside / "commands.json", beside / "result.json"],
        cwd=hostile.folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: Dict[str, Any] = json.loads((beside / "result.json").read_text())
    failed = [words for words, code in zip(commands, result["codes"]) if code]
    assert not failed, done.stderr[-6000:]
    return result


def test_the_traps_work(hostile: Hostile) -> None:
    """Else the tests below could not fail."""
    subprocess.run([sys.executable, "-c", "import json"], cwd=hostile.folder, stderr=subprocess.DEVNULL)
    path = {"PATH": "." + ":/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-c", "ssh device; c++ a.cpp"], cwd=hostile.folder, env=path)
    assert hostile.run == ["json.py", "ssh", "c++"]


def test_the_watch_works(hostile: Hostile, bundle: Path) -> None:
    (hostile.folder / "model.oeb").write_bytes(bundle.read_bytes())
    assert run_there(hostile, [["inspect", "model.oeb"]])["opened"] == ["model.oeb"]


def test_the_verbs(hostile: Hostile, bundle: Path, encoder: Path, data: Path, tmp_path: Path) -> None:  # noqa: F811
    """The help of every verb, and a real use of each that starts processes or has libraries do so."""
    out = tmp_path / "out"
    out.mkdir()
    recipe = out / "recipe.json"  # JSON is YAML, too
    stages = {"finetune": FEW_STEPS, "quantize": {"training": FEW_STEPS}, "build": {"min_cosine": -1}}
    task = {"name": "text", "data": str(data)}
    recipe.write_text(
        json.dumps({"model": str(encoder), "output": str(out / "made"), "task": task, **stages})
    )
    made = out / "made" / "model.oeb"
    commands: List[Sequence[object]] = [[verb, "--help"] for verb in cli.cli.commands]
    commands += [
        ["doctor"],
        ["bench", bundle, *SHORT],
        ["bench", bundle, *SHORT, "--baseline", "onnxruntime"],
        ["compress", recipe],
        ["evaluate", made, "--task", "text", "--data", data],
        ["build", out / "made" / "1-finetune", "-o", out / "again.oeb", "--min-cosine", "-1"],
        ["verify", out / "again.oeb"],
        ["run", bundle, "the film was good"],
        ["keygen", "-o", out / "mine.key"],
        ["sign", bundle, "--key", out / "mine.key", "-o", out / "signed.oeb"],
        ["inspect", out / "signed.oeb"],
        ["push", bundle, "org/small-oeb"],
        ["pull", "org/small-oeb", "-o", out / "pulled.oeb"],
    ]
    with running_hub() as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(out / "hub")}
        result = run_there(hostile, commands, HF_HUB_DISABLE_XET="1", **variables)
    assert result["opened"] == []
    assert hostile.run == []


def test_deploy(hostile: Hostile, bundle: Path, device) -> None:  # noqa: F811
    for name in ("json", "hashlib", "os"):
        (device.home / f"{name}.py").write_text("raise SystemExit('hostile')\n")
    commands = [
        ["deploy", bundle, "ssh://device:model.oeb"],
        ["bench", bundle, "--device", "ssh://device", *SHORT],
    ]
    assert run_there(hostile, commands)["opened"] == []
    assert hostile.run == []
    assert (device.home / "model.oeb").read_bytes() == bundle.read_bytes()


def test_serve(hostile: Hostile, bundle: Path) -> None:
    words = [Path(sys.executable).with_name("obert-edge"), "serve", bundle, "--port", "0", "--threads", "1"]
    process = subprocess.Popen(
        [str(word) for word in words],
        cwd=hostile.folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    said = []
    try:
        place = None
        while not place:
            said.append(process.stderr.readline())
            assert said[-1], "".join(said)
            place = re.search(r"listening on (\S+)", said[-1])
        answer = httpx.post(f"{place[1]}/predict", json={"inputs": ["the film was good"]}, timeout=60)
        assert answer.status_code == 200, answer.text
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert hostile.run == []


@pytest.mark.parametrize(
    "words",
    [["doctor"], ["inspect"], ["verify"], ["run", "the film was good"], ["bench", *SHORT]],
    ids=lambda words: words[0],
)
def test_a_bundle_that_is_run(hostile: Hostile, bundle: Path, words: List[str]) -> None:
    """``sys.path`` begins with the bundle itself, also where it lies in the folder."""
    (hostile.folder / "model.oeb").write_bytes(bundle.read_bytes())
    done = subprocess.run(
        [sys.executable, "model.oeb", *words],
        cwd=hostile.folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert hostile.run == []


@pytest.mark.parametrize("command", ["tools/quickstart", "tools/test", "targets/build.py"])
def test_the_commands_of_a_clone(hostile: Hostile, command: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / command, "--help"], cwd=hostile.folder, env=environment(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert hostile.run == []


def test_a_package_is_found_where_it_is_installed(hostile: Hostile) -> None:
    """As `tools/quickstart` asks the Python of its environment for the encoder."""
    asked = "from pathlib import Path; from dev import environment; import sys; "
    asked += "print(environment.package_folder(Path(sys.executable), 'numpy'))"
    code = f"import sys; sys.path[:] = [{str(ROOT / 'tools')!r}, *filter(None, sys.path)]; {asked}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=hostile.folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).name == "numpy"
    assert hostile.run == []
