"""The runner of a bundle: the device wing whole, so that ``python3 model.oeb`` needs only numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import obert_edge
from obert_edge.bundle.container import MAIN, RUNNER_PREFIX

#: Every source the device wing imports, itself included, as patterns below the package.
DEVICE_WING = ("__init__.py", "errors.py", "files.py", "bundle/**/*.py", "device/**/*.py")
#: The source that ``python3 model.oeb`` starts; a bundle has it a second time, as its ``__main__.py``.
MAIN_SOURCE = "device/commands/bundle_main.py"


def runner_members() -> Dict[str, bytes]:
    """The runner as members of a bundle: name -> bytes of the source.

    Names are those of the installed package (``obert_edge/...``), so a bundle on ``sys.path`` can be
    imported.
    """
    package = Path(obert_edge.__file__).parent
    members = {MAIN: (package / MAIN_SOURCE).read_bytes()}
    for pattern in DEVICE_WING:
        for path in sorted(package.glob(pattern)):
            members[RUNNER_PREFIX + path.relative_to(package).as_posix()] = path.read_bytes()
    return members
