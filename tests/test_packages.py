"""A package that is not installed is named with the extra that brings it, before any work of any verb."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

from obert_edge.errors import UsageError
from obert_edge.packages import DISTRIBUTIONS, EXTRAS, how_to_install, imports_for

#: Runs command lines one after the other where some packages cannot be imported, as if they were not there.
PROGRAM = """
import contextlib, importlib.abc, io, json, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
from obert_edge.cli import run_command
found = []
for words in json.loads(sys.argv[2]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = run_command(words)
    found.append([code, said.getvalue()])
print(json.dumps(found))
"""
TASK = ["--task", "text", "--data", "data"]
VERBS = {
    "finetune": ["finetune", "model", *TASK],
    "prune": ["prune", "model", *TASK],
    "quantize": ["quantize", "model", *TASK],
    "transfer": ["transfer", "model", *TASK],
    "drop-layers": ["drop-layers", "model", *TASK, "--keep", "0"],
    "trim-vocabulary": ["trim-vocabulary", "model"],
    "evaluate": ["evaluate", "model", *TASK],
    "compress": ["compress", "recipe.yaml"],
    "build": ["build", "model"],
    "build --tflite": ["build", "model", "--tflite"],
    "keygen": ["keygen"],
    "prune permuted": ["prune", "model", *TASK, "--channel-permutation"],
    "prune at once": ["prune", "model", *TASK, "--epochs", "0"],
}
TRAINING = ["finetune", "prune", "quantize", "transfer", "drop-layers", "compress"]
MODELS = [*TRAINING, "trim-vocabulary", "evaluate", "prune at once"]


def outcomes(folder: Path, hidden: str, verbs: list[str]) -> dict[str, tuple[int, str]]:
    """Exit code and complaint of each verb, run in a folder that has no model at all."""
    words = [
        [*VERBS[verb], *([] if verb in ("evaluate", "compress") else ["-o", "out.oeb"])] for verb in verbs
    ]
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, hidden, json.dumps(words)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(verbs, (tuple(one) for one in json.loads(done.stdout.splitlines()[-1]))))


@pytest.mark.parametrize(
    ("hidden", "named", "extra", "verbs"),
    [
        ("accelerate", "accelerate", "host", TRAINING),
        ("torch", "torch", "host", MODELS),
        ("transformers", "transformers", "host", MODELS),
        ("safetensors", "safetensors", "host", [*MODELS, "build"]),
        ("torch,transformers", "torch and transformers", "host", MODELS),
        ("scipy", "scipy", "host", ["prune permuted"]),
        ("yaml", "PyYAML", "host", ["compress"]),
        ("ai_edge_litert", "ai-edge-litert", "baselines", ["build --tflite"]),
        ("cryptography", "cryptography", "sign", ["keygen"]),
    ],
)
def test_what_is_missing_is_told_before_any_work(tmp_path, hidden, named, extra, verbs) -> None:
    recipe = {"model": "model", "output": "run", "task": {"name": "text", "data": "data"}, "finetune": {}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    for verb, (code, said) in outcomes(tmp_path, hidden, verbs).items():
        assert code == 2, (verb, said)
        assert named in said and "not installed" in said, (verb, said)
        assert f"pip install 'obert-edge[{extra}]'" in said, (verb, said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]


def test_what_a_verb_does_not_need_is_not_asked_for(tmp_path) -> None:
    """There are no data and no model, which is what such a verb complains of."""
    found = outcomes(tmp_path, "accelerate,scipy,cryptography,onnxruntime,yaml", ["prune at once", "build"])
    for verb, (code, said) in found.items():
        assert code in (1, 2) and "not installed" not in said and "error: " in said, (verb, said)


def test_every_package_of_an_extra_is_declared_with_it() -> None:
    """Hints name the extras of pyproject.toml; those for developers have no users to hint at."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    listed = {
        (re.split(r"[<>=]", requirement)[0].lower().replace("_", "-"), extra)
        for extra, requirements in project["optional-dependencies"].items()
        for requirement in requirements
        if extra not in ("dev", "docs")
    }
    declared = {
        (DISTRIBUTIONS.get(name, name).lower().replace("_", "-"), extra) for name, extra in EXTRAS.items()
    }
    assert declared == listed


def test_packages_of_several_extras_are_installed_together() -> None:
    assert how_to_install("torch", "datasets", "scipy") == "pip install 'obert-edge[host,datasets]'"


def test_a_module_of_no_extra_is_not_hidden() -> None:
    with pytest.raises(ModuleNotFoundError, match="nobody_has_this"), imports_for("work"):
        import nobody_has_this  # noqa: F401
    found = pytest.raises(UsageError, match="work needs PyYAML, which is not installed")
    with found as caught, imports_for("work"):
        raise ModuleNotFoundError("No module named 'yaml.nodes'", name="yaml.nodes")
    assert caught.value.hint == "pip install 'obert-edge[host]'"
