"""Compiles the engine into the package before it is collected; everything else is in pyproject.toml."""

from __future__ import annotations

import platform
import runpy
from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent


class BuildEngine(Command):
    """Runs `targets/build.py`, which leaves `obert_edge/engine/lib/*.so` in the source tree.

    A command of its own, not part of `build_py`: an editable install would hide its failure there.
    """

    user_options: ClassVar[list[tuple[str, str, str]]] = []
    editable_mode = False
    build_lib: str | None = None

    def initialize_options(self) -> None:
        """Nothing to set."""

    def finalize_options(self) -> None:
        """Nothing to derive."""

    def run(self) -> None:
        """Compile every target's library that is not up to date."""
        runpy.run_path(str(ROOT / "targets" / "build.py"))["main"]([])

    def get_source_files(self) -> list[str]:
        """What a source distribution needs beyond the Python packages."""
        return [str(path.relative_to(ROOT)) for path in ROOT.glob("targets/**/*.[chi]*") if path.is_file()]

    def get_outputs(self) -> list[str]:
        """Nothing of its own: `build_py` collects the libraries as package data."""
        return []

    def get_output_mapping(self) -> dict[str, str]:
        """Nothing of its own: see :meth:`get_outputs`."""
        return {}


class Build(build):
    """`build` with the engine first, so that `build_py` finds the libraries."""

    sub_commands: ClassVar[list[tuple[str, object]]] = [("build_engine", None), *build.sub_commands]


class PlatformWheel(bdist_wheel):
    """One wheel per machine type, for every Python 3: the engine is loaded with ctypes."""

    def finalize_options(self) -> None:
        """Mark the wheel as carrying compiled code."""
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        """The library needs glibc 2.17 and nothing else."""
        return "py3", "none", f"manylinux_2_17_{platform.machine()}"


setup(cmdclass={"build": Build, "build_engine": BuildEngine, "bdist_wheel": PlatformWheel})
