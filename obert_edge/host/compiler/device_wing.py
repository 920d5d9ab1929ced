"""The pure-Python runner that travels in every bundle: ``python3 model.oeb`` needs only numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import obert_edge
from obert_edge.bundle.container import MAIN, RUNNER_PREFIX

#: Device-side sources, relative to the package.
RUNNER_SOURCES = ("__init__.py", "errors.py", "files.py", "bundle/**/*.py", "device/**/*.py")
#: What the bundle starts with.
RUNNER_MAIN = "device/commands/bundle_main.py"


def runner_members() -> Dict[str, bytes]:
    """The runner's sources as bundle members: name -> data."""
    package = Path(obert_edge.__file__).parent
    members = {MAIN: (package / RUNNER_MAIN).read_bytes()}
    for pattern in RUNNER_SOURCES:
        for path in sorted(package.glob(pattern)):
            members[RUNNER_PREFIX + path.relative_to(package).as_posix()] = path.read_bytes()
    return members
