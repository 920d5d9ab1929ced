"""Compiles the engine into the package before it is collected; everything else is in pyproject.toml."""

from __future__ import annotations

import platform
import runpy
from pathlib import Path
from typing import Any, ClassVar

from setuptools import Command, Distribution, setup
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


class BinaryDistribution(Distribution):
    """Installed where compiled code goes, though nothing is a Python extension module."""

    def has_ext_modules(self) -> bool:
        """The engine library counts as one."""
        return True


class PlatformWheel(bdist_wheel):
    """One wheel per machine type, for every Python 3: the engine is loaded with ctypes.

    This machine's carries the libraries of all targets, to build bundles for. ``--plat-name
    manylinux_2_28_aarch64`` makes the wheel of another machine here, with that machine's library alone.
    """

    def finalize_options(self) -> None:
        """Mark the wheel as carrying compiled code."""
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        """The library needs glibc 2.17 and nothing else."""
        if self.plat_name_supplied:
            return "py3", "none", self.plat_name.replace("-", "_")
        return "py3", "none", f"manylinux_2_17_{platform.machine()}"

    def write_wheelfile(self, *arguments: Any, **options: Any) -> None:
        """Leave other machines' libraries out of another machine's wheel before it is packed."""
        super().write_wheelfile(*arguments, **options)
        if not self.plat_name_supplied or self.get_tag()[2].endswith(platform.machine()):
            return
        libraries = list(Path(self.bdist_dir).glob("obert_edge/engine/lib/*.so"))
        own = [
            path for path in libraries if self.get_tag()[2].endswith(path.name.split(".")[1].split("-")[0])
        ]
        if not own:
            raise SystemExit(f"error: no target's library is for {self.get_tag()[2]}")
        for path in libraries:
            if path not in own:
                path.unlink()


setup(
    distclass=BinaryDistribution,
    cmdclass={"build": Build, "build_engine": BuildEngine, "bdist_wheel": PlatformWheel},
)
