"""A working directory full of traps: modules, programs and settings that somebody left there to be found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List

#: Names that a module of Python, of a library or of ours has; a file of the same name must not be imported.
MODULES = (
    *("json", "numpy", "struct", "site", "os", "time", "ctypes", "subprocess", "zlib", "random", "logging"),
    *("obert_edge", "torch", "transformers", "tokenizers", "click", "multiprocessing", "ziglang", "yaml"),
    *("sitecustomize", "usercustomize", "huggingface_hub", "onnxruntime", "starlette", "texts", "dev"),
)
#: Programs that we or a library start.
PROGRAMS = (
    *("c++", "cc", "g++", "ar", "ld", "zig", "ssh", "scp", "ssh-keygen", "python", "python3", "openssl"),
    *("git", "lscpu", "vcgencmd", "sh", "ldconfig", "gcc", "obert-edge", "uname"),
)
#: Files in which some program looks for its settings when it finds them where it is started.
SETTINGS = (
    *(".env", "pyproject.toml", "setup.cfg", "tox.ini", "pytest.ini", "conftest.py", "pip.conf", "build.zig"),
    *(".comet.config", ".numba_config.yaml", "matplotlibrc", "openssl.cnf", "pyvenv.cfg", ".netrc"),
    *("ssh_config", ".clang-format", "requirements.txt", "config.json", "adapter_config.json"),
)


class Hostile:
    """The folder, and what of it was run.

    Args:
        place: an existing folder, which holds it.
    """

    def __init__(self, place: Path) -> None:
        self.folder = place / "hostile"
        self._mark = place / "run"
        self.folder.mkdir()
        for name in MODULES:
            (self.folder / f"{name}.py").write_text(
                f"import sys\nopen({str(self._mark)!r}, 'a').write('{name}.py\\n')\nsys.exit('hostile')\n"
            )
        for name in PROGRAMS:
            path = self.folder / name
            path.write_text(f"#!/bin/sh\necho {name} >> '{self._mark}'\nexit 66\n")
            path.chmod(0o755)
        for name in SETTINGS:
            (self.folder / name).write_text("hostile")

    @property
    def run(self) -> List[str]:
        """The modules that were imported and the programs that were started, in order."""
        return self._mark.read_text().splitlines() if self._mark.exists() else []


#: A Python script that runs our command line, once for each list of words of the JSON file `argv[1]`, and
#: writes to `argv[2]` which files of the working directory were opened meanwhile. Its own folder is where
#: Python looks first, as it is for the installed command.
SCRIPT = """
import os, sys

here, opened = os.getcwd() + os.sep, set()


def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        # What is opened relative to another folder (shutil.rmtree does so) looks as if it were of this one.
        if path.startswith(here) and os.path.lexists(path):
            opened.add(path[len(here):])


sys.addaudithook(watch)

import json

from obert_edge.cli import run_command

with open(sys.argv[1]) as file:
    commands = json.load(file)
codes = []
for words in commands:
    print("==", *words, file=sys.stderr)
    codes.append(run_command(words))
with open(sys.argv[2], "w") as file:
    json.dump({"codes": codes, "opened": sorted(opened)}, file)
"""


def environment(**variables: str) -> Dict[str, str]:
    """The environment of a process that is to find what it finds by itself."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, **variables}
