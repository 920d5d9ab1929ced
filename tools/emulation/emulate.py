"""Run a bundle for ARM on this x86 machine, as on a Raspberry Pi 2, 3, 4 or 5, under QEMU.

    python -m tools.emulation.emulate pi5 model.oeb verify
    python -m tools.emulation.emulate pi2 model-armhf.oeb run "a gripping, funny film"

Results are right to the bit; times say nothing about a board.

Needs: a Debian system, whose packages are unpacked into a cache folder (nothing is installed).
Takes: a minute or two the first time, to fetch the packages; then about 20 times as long as on a board.
Ends with the status of the bundle's own command, or with 3 where there can be no emulated board.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Optional, Sequence

from tools import command_line
from tools.emulation.debian import UnavailableError
from tools.emulation.emulated import MACHINES, PI_32_BIT, Emulated


def main(arguments: Optional[Sequence[str]] = None) -> int:
    machines = {machine.name: machine for machine in (*MACHINES, PI_32_BIT)}
    parser = command_line.parser("tools.emulation.emulate", __doc__)
    parser.add_argument("machine", choices=machines, help="the board; 'newest' is a CPU with every extension")
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        help="what its python3 is to run: the bundle, a verb, its options",
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="obert-edge-emulate-") as folder:
        try:
            emulated = Emulated(machines[options.machine], Path(folder))
        except UnavailableError as reason:
            print(f"error: there is no emulated {options.machine}: {reason}", file=sys.stderr)
            return 3
        command = [str(emulated.python), "-B", *options.arguments]
        return subprocess.run(command, env=emulated.environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(command_line.run(main))
