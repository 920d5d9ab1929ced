"""The import contracts of pyproject.toml notice what they are there for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "pyproject.toml"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package's Python files, laid out as an installed package is."""
    root = tmp_path_factory.mktemp("walls")
    only_python = shutil.ignore_patterns("__pycache__", "lib", "*.[!p]*", "*.o")
    shutil.copytree(ROOT / "obert_edge", root / "obert_edge", ignore=only_python)
    for folder in ("targets", "calibration"):
        shutil.copytree(ROOT / folder, root / "obert_edge" / folder, ignore=only_python)
    return root


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts in a tree."""
    program = Path(sys.executable).parent / "lint-imports"
    command = [str(program), "--no-logo", "--no-cache", str(CONFIG)]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True)


def test_the_tree_as_it_is_keeps_them(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout


VIOLATIONS = {
    "a device module that wants torch, inside a function": (
        "device/runtime/session.py",
        "def late() -> None:\n    import torch\n",
        "Device and bundle never reach the host's code or its packages",
    ),
    "a device module that knows the targets": (
        "device/runtime/board.py",
        "from obert_edge.targets import base as intruder\n",
        "Data and imports go one way: host, bundle, device",
    ),
    "an adapter that knows the host": (
        "adapters/langchain.py",
        "def late() -> None:\n    import obert_edge.host.compiler\n",
        "Adapters depend on the device wing, and nothing of ours on them",
    ),
    "a host that knows an adapter": (
        "host/signing.py",
        "def late() -> None:\n    import obert_edge.adapters.opening\n",
        "Data and imports go one way: host, bundle, device",
    ),
    "a format that knows its reader": (
        "bundle/manifest.py",
        "import obert_edge.device.runtime.session as intruder\n",
        "Data and imports go one way: host, bundle, device",
    ),
    "a session that knows the benchmark": (
        "device/runtime/session.py",
        "def late() -> None:\n    import obert_edge.device.bench.benchmark\n",
        "The device wing's rooms",
    ),
    "a compiler that knows the stages": (
        "host/compiler/build.py",
        "def late() -> None:\n    import obert_edge.host.stages\n",
        "The host wing's rooms",
    ),
    "a compiler that knows the command line": (
        "host/compiler/build.py",
        "def late() -> None:\n    import obert_edge.cli\n",
        "Data and imports go one way: host, bundle, device",
    ),
    "pruning that knows quantization": (
        "host/pruning/schedule.py",
        "import obert_edge.host.quantization as intruder\n",
        "Pruning and data know neither quantization nor calibration",
    ),
    "a device that knows the server": (
        "device/runtime/session.py",
        "def late() -> None:\n    import obert_edge.serve.server\n",
        "Data and imports go one way: host, bundle, device",
    ),
    "a server that knows the host": (
        "serve/models.py",
        "def late() -> None:\n    import obert_edge.host.compiler.build\n",
        "Data and imports go one way: host, bundle, device",
    ),
    "a host that knows the server": (
        "host/compiler/build.py",
        "def late() -> None:\n    import obert_edge.serve.settings\n",
        "Only the command line knows the server",
    ),
    "a server that wants torch": (
        "serve/app.py",
        "def late() -> None:\n    import torch\n",
        "Serving needs neither the host's packages nor the command line's",
    ),
    "two modules of one folder that need each other": (
        "bundle/hashes.py",
        "def late() -> None:\n    import obert_edge.bundle.container\n",
        "No import circle among the modules or the folders of any folder",
    ),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_violation_is_found(tree: Path, violation: str) -> None:
    name, line, contract = VIOLATIONS[violation]
    path = tree / "obert_edge" / name
    before = path.read_text("utf-8")
    path.write_text(f"{before}\n\n{line}", "utf-8")
    try:
        done = lint(tree)
    finally:
        path.write_text(before, "utf-8")
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout


def test_what_only_a_type_checker_imports_is_allowed(tree: Path) -> None:
    path = tree / "obert_edge" / "bundle" / "manifest.py"
    before = path.read_text("utf-8")
    path.write_text(
        before + "\n\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import obert_edge.cli\n"
    )
    try:
        done = lint(tree)
    finally:
        path.write_text(before, "utf-8")
    assert done.returncode == 0, done.stdout


def test_every_room_of_the_host_wing_has_its_place() -> None:
    contracts = tomllib.loads(CONFIG.read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "host")
    placed = {name.strip() for layer in layers for name in layer.split("|")}
    rooms = {path.parent.name for path in (ROOT / "obert_edge" / "host").glob("*/__init__.py")}
    assert placed == {f"obert_edge.host.{room}" for room in rooms} | {"obert_edge.calibration"}
