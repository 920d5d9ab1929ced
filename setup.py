"""Compiles the engine of every target into the package; everything else is in pyproject.toml."""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildEngine(build_py):
    """``build_py`` that first compiles ``obert_edge/engine/lib/*.so`` (see ``targets/build.py``)."""

    def run(self) -> None:
        runpy.run_path(str(ROOT / "targets" / "build.py"), run_name="__main__")
        super().run()


setup(cmdclass={"build_py": BuildEngine})
