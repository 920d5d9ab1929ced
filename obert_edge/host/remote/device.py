"""A device at the other end of a connection: what it is, and how a bundle gets there whole or not at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

from obert_edge.bundle.container import ENGINE, Bundle
from obert_edge.device.runtime.library import check_library_architecture
from obert_edge.device.runtime.machine import architecture_of
from obert_edge.device.text_table import megabytes
from obert_edge.errors import DeviceError, UnsupportedDeviceError
from obert_edge.host.remote.ssh import Connection

_OLDEST_PYTHON = (3, 9)

#: The program runs on whatever Python 3 the device has, so its syntax is old, and prints the device's facts
#: as JSON. Its argument is where the bundle is to go.
_PROBE = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]  # nothing of the folder this runs in
import hashlib, json, os, platform
facts = {"machine": platform.machine(), "bits": platform.architecture()[0]}
facts["python"] = list(sys.version_info[:3])
try:
    import numpy
    facts["numpy"] = numpy.__version__
except Exception as error:
    facts["numpy_error"] = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
path = sys.argv[1]
folder = os.path.dirname(path) or "."
facts["is_other"] = os.path.exists(path) and not os.path.isfile(path)
try:
    with open("/dev/null" if facts["is_other"] else path, "rb") as stream:
        digest = hashlib.sha256()
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    if not facts["is_other"]:
        facts["sha256"] = digest.hexdigest()
except (IOError, OSError):
    pass
while folder and not os.path.isdir(folder):
    folder = os.path.dirname(folder)
try:
    disk = os.statvfs(folder or ".")
    facts["free"] = disk.f_bavail * disk.f_frsize
except OSError:
    pass
print("obert-edge:" + json.dumps(facts))
"""

#: The script runs on the device and reads the bundle from stdin. Its arguments are folder, name and bytes.
#: Whatever goes wrong, only a `.part` file of a dead process can stay behind, and the next copy removes it.
#: It ends with 41 where it may not write, 42 where writing failed, and 43 where the stream was cut short.
_RECEIVE = """
umask 022
mkdir -p -- "$1" && cd -- "$1" || exit 41
for old in ".$2."*.part; do
  pid=${old%.part}; pid=${pid##*.}
  [ -e "$old" ] && ! kill -0 "$pid" 2>/dev/null && rm -f "$old"
done
part="./.$2.$$.part"
if [ -e "./$2" ] && [ ! -f "./$2" ]; then echo "it is no regular file" >&2; exit 41; fi
trap 'rm -f "$part"' EXIT
trap 'exit 43' HUP INT TERM PIPE
: > "$part" || exit 41
cat > "$part" || exit 42
[ "$(wc -c < "$part")" -eq "$3" ] || exit 43
sync "$part" 2>/dev/null || sync
mv -f -- "$part" "./$2" || exit 41
"""


@dataclass(frozen=True)
class Device:
    """What a device says of itself.

    Args:
        architecture: what its Python was built for: ``aarch64``, ``armv7l``, ``x86_64``...
        free_bytes: free space on the disk the bundle goes to; ``None`` where it does not say.
        sha256: hash of the file that is already at the bundle's place; ``None`` when there is none.
    """

    architecture: str
    free_bytes: Optional[int]
    sha256: Optional[str]


def probe(connection: Connection, path: str) -> Device:
    """Ask a device what it is.

    Args:
        connection: to the device.
        path: where the bundle is to go.

    Raises:
        UnsupportedDeviceError: no Python 3.9 or numpy there.
        DeviceError: the connection broke, or something that is no file is in the bundle's place.
    """
    answer = connection.run(["python3", "-c", _PROBE, path])
    found = [line for line in answer.output.splitlines() if line.startswith("obert-edge:")]
    if not found:
        raise UnsupportedDeviceError(
            f"{connection.address} has no Python 3 that runs: {answer.errors or 'nothing was printed'}",
            hint="run there: `sudo apt install python3 python3-numpy`",
        )
    facts: Dict[str, Any] = json.loads(found[-1].partition(":")[2])
    if tuple(facts["python"]) < _OLDEST_PYTHON:
        raise UnsupportedDeviceError(
            f"{connection.address} has Python {'.'.join(map(str, facts['python']))}; 3.9 is needed",
            hint="install a newer Python there, or a newer release of its system",
        )
    if "numpy" not in facts:
        raise UnsupportedDeviceError(
            f"{connection.address} has no numpy that can be imported: {facts['numpy_error']}",
            hint="run there: `sudo apt install python3-numpy` (or `pip install numpy`)",
        )
    if facts["is_other"]:
        raise DeviceError(
            f"{path} on {connection.address} is no regular file, and is not replaced",
            hint="name another file, or a folder with a / at its end: ssh://user@host:path/",
        )
    return Device(architecture_of(facts["machine"], facts["bits"]), facts.get("free"), facts.get("sha256"))


def put(connection: Connection, bundle: Path, path: str) -> Device:
    """Copy a bundle to a device that can run it, unless it is there already.

    It is written under a temporary name and moved when all of it has arrived.

    Args:
        connection: to the device.
        bundle: the file here.
        path: its place there.

    Returns:
        The device.

    Raises:
        BundleError: not a bundle, or altered.
        UnsupportedDeviceError: the device cannot run it.
        DeviceError: no room there, no right to write, or the connection broke.
    """
    with Bundle.open(bundle, "full") as opened:
        device = probe(connection, path)
        if ENGINE in opened:
            check_library_architecture(opened, device.architecture, str(connection.address))
    with bundle.open("rb") as stream:
        size, digest = _size_and_hash(stream)
        if device.sha256 == digest:
            return device
        if device.free_bytes is not None and size > device.free_bytes:
            raise DeviceError(
                f"{connection.address} has {megabytes(device.free_bytes)} free; "
                f"the bundle has {megabytes(size)}",
                hint="free space on the device, or name a folder on another disk: ssh://user@host:path/",
            )
        stream.seek(0)
        folder, _, name = path.rpartition("/")
        place = (folder or ("/" if path.startswith("/") else "."), name)
        answer = connection.run(["sh", "-c", _RECEIVE, "receive", *place, str(size)], stdin=stream)
    if answer.status:
        raise _explain_copy(connection, path, answer.status, answer.errors)
    return device


def _size_and_hash(stream: Any) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    for block in iter(lambda: stream.read(1 << 20), b""):
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()


def _explain_copy(connection: Connection, path: str, status: int, errors: str) -> DeviceError:
    where = f"{path} on {connection.address}"
    last = errors.splitlines()[-1] if errors else f"status {status}"
    if "No space left" in errors or "quota" in errors:
        return DeviceError(
            f"the disk is full: {where} was not written",
            hint="free space on the device, or name a folder on another disk: ssh://user@host:path/",
        )
    if status == 41:
        return DeviceError(
            f"{where} cannot be written: {last}", hint="name a folder you may write to: ssh://user@host:path/"
        )
    return DeviceError(
        f"the bundle did not arrive whole at {where} ({last}); nothing was kept", hint="run the command again"
    )
