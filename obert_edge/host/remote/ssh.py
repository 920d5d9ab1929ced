"""One SSH connection to a device, by the system's own ``ssh`` command and the user's own configuration."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, List, NamedTuple, Optional, Sequence, Type

from obert_edge.errors import DeviceError, UsageError

#: Options for every ``ssh`` command, split as a shell does: a port or key where ~/.ssh/config has none.
OPTIONS_VARIABLE = "OBERT_EDGE_SSH_OPTIONS"
#: What ``ssh`` returns when it failed itself; any other status is the remote command's.
SSH_FAILED = 255
#: The status of a remote command that was killed, as a shell gives it for SIGKILL.
KILLED = 128 + 9

_ADDRESS = re.compile(r"ssh://(?P<login>(?:[^\s@:/]+@)?[^\s@:/]+)(?::(?P<path>[^\0\n]*))?")
_READY = "obert-edge: connected"
#: A device that stays silent for 4 x 5 seconds is given up.
_OPTIONS = (
    *("-o", "ConnectTimeout=15"),
    *("-o", "ServerAliveInterval=5"),
    *("-o", "ServerAliveCountMax=4"),
)


@dataclass(frozen=True)
class Address:
    """Where a device is.

    Args:
        login: ``[user@]host``, as ``ssh`` takes it; the host may be an alias of ``~/.ssh/config``.
        path: the bundle's place there, relative to the home folder; one that ends with ``/`` is a folder.
    """

    login: str
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address of the form ``ssh://[user@]host[:path]``.

        Raises:
            UsageError: it has another form.
        """
        match = _ADDRESS.fullmatch(text)
        # What starts with a dash would be an option of `ssh`, or of the command it starts as a proxy.
        if match is None or any(part.startswith("-") for part in match["login"].split("@")):
            raise UsageError(
                f"{text!r} is not the address of a device",
                hint="write ssh://user@host or ssh://user@host:path",
            )
        path = re.sub(r"^~(/|$)", "", match["path"] or "")
        if path.split("/")[0].isdigit():
            raise UsageError(
                f"{text!r} has {path!r} where a path is expected: what follows the colon is no port",
                hint=f"give the port in ~/.ssh/config, or by {OPTIONS_VARIABLE}='-p {path.split('/')[0]}'",
            )
        return cls(match["login"], path)

    def __str__(self) -> str:
        return f"ssh://{self.login}" + (f":{self.path}" if self.path else "")

    def file(self, name: str) -> str:
        """The path of a bundle called ``name`` here."""
        return self.path + name if self.path.endswith("/") or not self.path else self.path


class Answer(NamedTuple):
    """What a remote command returned: its exit status, and what it wrote to stdout and to stderr."""

    status: int
    output: str
    errors: str


class Connection:
    """An open connection, shared by all commands: a password is asked for once.

    A context manager. The connection ends with this process, whatever ends it.

    Args:
        address: the device.

    Raises:
        DeviceError: it cannot be reached or refuses us.
        UsageError: there is no ``ssh`` command.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._stack = contextlib.ExitStack()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def run(self, command: Sequence[str], *, stdin: Optional[BinaryIO] = None) -> Answer:
        """Run a command and wait for it.

        Args:
            command: words; quoted for the remote shell.
            stdin: what it reads; nothing by default.

        Raises:
            DeviceError: the connection broke.
        """
        done = subprocess.run(
            [*self._ssh, "-o", "ControlMaster=no", "--", self.address.login, quote(command)],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            capture_output=True,
            check=False,
        )
        errors = done.stderr.decode("utf-8", "replace").strip()
        status = done.returncode
        if status == SSH_FAILED and self._lives():
            status = KILLED  # ssh says the same when a signal ended the command there
        if status == SSH_FAILED or status < 0:
            raise DeviceError(
                f"the connection to {self.address} broke: {_last_line(errors) or 'no reason was given'}",
                hint="see whether the device is still up (power, network), then run the command again",
            )
        return Answer(status, done.stdout.decode("utf-8", "replace"), errors)

    def _lives(self) -> bool:
        """Whether the connection outlived a command that failed; its own end may show a moment later."""
        try:
            self._master.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return True
        return False

    def close(self) -> None:
        """End the connection."""
        self._stack.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _open(self) -> None:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="oe-ssh-"))
        complaints = self._stack.enter_context((Path(folder) / "errors").open("w+b"))
        self._ssh = [*ssh_command(), "-o", f"ControlPath={folder}/socket"]
        # The master reads a pipe of ours to its end: it ends when this process does, however that ends.
        command = quote(["sh", "-c", f"echo '{_READY}'; while read -r line; do :; done"])
        try:
            self._master = master = subprocess.Popen(
                [
                    *self._ssh,
                    "-o",
                    "ControlMaster=yes",
                    "-o",
                    "ControlPersist=no",
                    "--",
                    self.address.login,
                    command,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
        except FileNotFoundError as error:
            raise UsageError(
                "there is no ssh command here", hint="install it: `sudo apt install openssh-client`"
            ) from error
        self._stack.callback(_end, master)
        assert master.stdout is not None
        if not any(_READY.encode() in line for line in master.stdout):
            master.wait()
            complaints.seek(0)
            raise _unreachable(self.address, complaints.read().decode("utf-8", "replace").strip())


def ssh_command() -> List[str]:
    """``ssh`` with the options every call has; without a terminal it never asks for anything."""
    batch = () if sys.stdin is not None and sys.stdin.isatty() else ("-o", "BatchMode=yes")
    return ["ssh", *shlex.split(os.environ.get(OPTIONS_VARIABLE, "")), *batch, *_OPTIONS]


def quote(words: Sequence[str]) -> str:
    """A command as one line that a shell splits into the same words."""
    return " ".join(shlex.quote(word) for word in words)


def _end(master: subprocess.Popen[bytes]) -> None:
    assert master.stdin is not None and master.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        master.stdin.close()
    try:
        master.wait(timeout=5)
    except subprocess.TimeoutExpired:
        master.kill()
        master.wait()
    master.stdout.close()


def _unreachable(address: Address, errors: str) -> DeviceError:
    reason = _last_line(errors) or "no reason was given"
    hint = f"try `ssh {address.login}` yourself; is the device on, in this network, and is SSH enabled there?"
    if "Permission denied" in errors:
        hint = f"let this machine in with `ssh-copy-id {address.login}`, or check the user name"
    elif "Host key verification failed" in errors:
        hint = f"run `ssh {address.login}` once and compare the key it shows with the device's"
    return DeviceError(f"{address} cannot be reached: {reason}", hint=hint)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
