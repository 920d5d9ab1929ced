"""``deploy``: a bundle takes the place of an older one on a device, or everything stays as it was.

The new bundle is copied to ``PATH.next``, where the device must have the very bytes that were checked here,
and must get the embedded results from them. Only then it is renamed to ``PATH``; what was there has a second
name by then, and is ``PATH.previous`` after that. So there is a whole bundle at ``PATH`` at every moment, and
a program that has the older one open goes on with it.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Union

from obert_edge.bundle.container import Bundle
from obert_edge.bundle.packed import SUFFIX as PACKED
from obert_edge.bundle.packed import as_bundle
from obert_edge.bundle.signature import Key
from obert_edge.device.commands.verbs import Outcome
from obert_edge.device.progress import Progress, silent
from obert_edge.errors import DeviceError, VerificationError
from obert_edge.host.remote.device import probe, put
from obert_edge.host.remote.ssh import KILLED, Address, Connection

NEXT, PREVIOUS = ".next", ".previous"
#: What the device does besides verifying.
_STEPS = 3

#: The program runs on the device's Python >= 3.9. Its arguments are where the bundle goes, what takes its
#: place, the SHA-256 that must have, and where what was there goes. What goes wrong is printed.
_SWITCH = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]  # nothing of the folder this runs in
import hashlib, os, shutil
path, taker, wanted, previous = sys.argv[1:]
spare = path + ".spare"

def fail(message):
    print("obert-edge:" + message)
    sys.exit(1)

try:
    digest = hashlib.sha256()
    with open(taker, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != wanted:
        fail(taker + " was changed after it was verified")
    if os.path.isdir(previous):
        fail(previous + " is a folder")
    replaces = os.path.exists(path)
    if replaces:
        if os.path.exists(spare):
            os.remove(spare)
        try:
            os.link(path, spare)
        except OSError:  # a file system without second names
            shutil.copy2(path, spare)
    os.replace(taker, path)
    if replaces:
        os.replace(spare, previous)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
except OSError as error:
    fail(str(error))
"""


def deploy(
    bundle: Union[str, Path],
    device: str,
    *,
    trusted_keys: Optional[Sequence[Key]] = None,
    progress: Optional[Progress] = None,
) -> Outcome:
    """Put a bundle in the place of an older one on a device, once it has proved itself there.

    A signature is checked here: the device then must have the same bytes, so no code of the bundle vouches
    for itself.

    Args:
        bundle: the ``.oeb`` file here, or its packed form, which is unpacked here first.
        device: its address, ``ssh://user@host[:path]``.
        trusted_keys: public keys, one of which must have signed it; ``None``: whether it is signed does not
            count.
        progress: told about each step.

    Returns:
        What is where now.

    Raises:
        UsageError: the address is not one, or a key is no public key.
        BundleError: not a bundle, or altered.
        VerificationError: none of the trusted keys signed it, or the device gets other results.
        UnsupportedDeviceError: the device cannot run it.
        DeviceError: the device cannot be reached, has no room, or the connection broke.
    """
    address, tell = Address.parse(device), progress or silent
    with as_bundle(bundle, trusted_keys) as file:
        path = address.file(file.name)
        with Bundle.open(file, "full", trusted_keys) as opened:
            digest = opened.file_sha256()
        with Connection(address) as connection:
            before = probe(connection, path).sha256
            if before == digest:
                tell(f"verifying on {address}", 1, _STEPS)
                verified = _verify(connection, path)
            else:
                tell(f"copying to {address}", 0, _STEPS)
                verified = _replace(connection, file, path, digest, tell)
    tell("done", _STEPS, _STEPS)
    previous = path + PREVIOUS if before not in (None, digest) else None
    if before == digest:
        text = f"{path} on {address} is this bundle already, and verifies there"
    else:
        kept = f"; the older one is {previous}" if previous else ""
        text = f"{path} on {address} is the new bundle, verified there{kept}"
    return Outcome(0, text, {**_facts(address, path, digest, previous), "verification": verified})


def roll_back(name: str, device: str, *, progress: Optional[Progress] = None) -> Outcome:
    """Switch a device back to the bundle that was there before; once more switches forward again.

    Args:
        name: of the bundle or its packed form, for an address that names a folder.
        device: the address it was deployed to.
        progress: told about each step.

    Returns:
        What is where now.

    Raises:
        UsageError: the address is not one.
        VerificationError: the older bundle does not give its embedded results there.
        UnsupportedDeviceError: the device cannot run it.
        DeviceError: there is no older bundle, the device cannot be reached, or the connection broke.
    """
    address, tell = Address.parse(device), progress or silent
    path = address.file(name.removesuffix(PACKED))
    with Connection(address) as connection:
        tell(f"verifying on {address}", 1, _STEPS)
        found = probe(connection, path + PREVIOUS)
        if found.sha256 is None:
            raise DeviceError(
                f"there is no {path}{PREVIOUS} on {address} to switch back to",
                hint="deploy the bundle you want: `obert-edge deploy BUNDLE ADDRESS`",
            )
        verified = _verify(connection, path + PREVIOUS)
        tell(f"switching on {address}", 2, _STEPS)
        _switch(connection, path, path + PREVIOUS, found.sha256)
    tell("done", _STEPS, _STEPS)
    text = f"{path} on {address} is the bundle that was {path}{PREVIOUS}, verified there, and the other way"
    facts = _facts(address, path, found.sha256, path + PREVIOUS)
    return Outcome(0, text, {**facts, "verification": verified})


def _replace(connection: Connection, bundle: Path, path: str, digest: str, tell: Progress) -> Dict[str, Any]:
    """Copy, verify, switch; what was copied goes again where one of them fails."""
    try:
        put(connection, bundle, path + NEXT)
        # Before any code of the bundle runs there: it is the bytes that were checked here.
        if probe(connection, path + NEXT).sha256 != digest:
            raise DeviceError(
                f"{path}{NEXT} on {connection.address} is not the bundle that was checked here",
                hint="run the command again, while nobody else writes either file",
            )
        tell(f"verifying on {connection.address}", 1, _STEPS)
        verified = _verify(connection, path + NEXT)
        tell(f"switching on {connection.address}", 2, _STEPS)
        _switch(connection, path, path + NEXT, digest)
    except BaseException:
        _remove(connection, path + NEXT)
        raise
    return verified


def _facts(address: Address, path: str, digest: str, previous: Optional[str]) -> Dict[str, Any]:
    return {"device": str(address), "path": path, "sha256": digest, "previous": previous}


def _verify(connection: Connection, path: str) -> Dict[str, Any]:
    """Let the bundle compute its embedded cases on the device; its hashes are checked there once more."""
    answer = connection.run(["python3", _as_file(path), "verify", "--json"])
    where = f"{path} on {connection.address}"
    if answer.status == KILLED:
        raise DeviceError(
            f"verifying {where} was killed: the device has probably run out of memory",
            hint="end other programs there, or prune the model further; the older bundle is still in place",
        )
    try:
        found: Dict[str, Any] = json.loads(answer.output)
    except ValueError:
        found = {}
    if answer.status == 0 and found.get("ok") is True:
        return found
    said = found.get("message") or (answer.errors.splitlines() or ["it printed nothing"])[-1]
    raise VerificationError(
        f"{where} does not verify there: {said}",
        hint=f"{found.get('fix') or 'run `obert-edge doctor` there'}; the older bundle is still in place",
    )


def _switch(connection: Connection, path: str, taker: str, digest: str) -> None:
    answer = connection.run(
        ["python3", "-c", _SWITCH, _as_file(path), _as_file(taker), digest, _as_file(path + PREVIOUS)]
    )
    if answer.status:
        said = answer.output.rpartition("obert-edge:")[2].strip() or answer.errors or "no reason was given"
        raise DeviceError(
            f"{path} on {connection.address} was not replaced: {said.splitlines()[-1]}",
            hint="see that you may write its folder; the older bundle is still in place",
        )


def _remove(connection: Connection, path: str) -> None:
    """Remove what was copied; a device that is gone keeps it until the next bundle is copied over it."""
    with contextlib.suppress(DeviceError):
        connection.run(["rm", "-f", "--", path])


def _as_file(path: str) -> str:
    """A path that starts with a dash would be an option of the interpreter."""
    return path if path.startswith("/") else f"./{path}"
