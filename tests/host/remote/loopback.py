"""An SSH server on the loopback with throw-away keys: a device that is this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tools.emulation.debian import UnavailableError, unpacked

#: What a device has besides Python; anything else is not on its PATH.
TOOLS = ("bash", "cat", "mkdir", "mv", "rm", "sh", "sync", "wc")


class Loopback:
    """The server, and the folder that is all a test sees of the "device".

    Attributes:
        home: where relative paths of ``ssh://device:path`` begin.
        programs: the device's PATH; put another ``python3`` there to make it another device.
        small: a folder on a disk of 64 KiB; ``None`` where none can be mounted.
        options: for ``$OBERT_EDGE_SSH_OPTIONS``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.programs = folder / "home", folder / "programs"
        self.small = folder / "small" if os.geteuid() == 0 else None
        for path in (self.home, self.programs, folder / "small"):
            path.mkdir()
        for tool in TOOLS:
            (self.programs / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        self.program("python3", f'exec {shlex.quote(sys.executable)} "$@"')
        self.options = f"-F {shlex.quote(str(folder / 'client'))}"
        self._start()

    def program(self, name: str, script: str) -> None:
        """Put a shell script on the device's PATH."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def close(self) -> None:
        """Stop serving."""
        self._server.terminate()
        self._server.wait(timeout=10)

    def _start(self) -> None:
        server, libraries = _find_sshd()
        if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
            raise UnavailableError("there is no ssh client here")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        folder = self.folder
        for key in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True
            )
        (folder / "authorized_keys").write_bytes((folder / "user_key.pub").read_bytes())
        host_key = (folder / "host_key.pub").read_text()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
        (folder / "server").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
            f"PermitRootLogin prohibit-password\nSetEnv PATH={self.programs}\nMaxStartups 50\n"
        )
        (folder / "client").write_text(
            f"Host device\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {folder}/user_key\n"
            f"Host stranger\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {folder}/no_key\n"
            "Host gone\n  HostName 127.0.0.1\n  Port 1\n"
            "Host *\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
            "  StrictHostKeyChecking yes\n"
        )
        command = [str(server), "-D", "-e", "-f", str(folder / "server")]
        if os.geteuid() == 0:
            command = ["unshare", "--mount", "sh", "-ec", self._as_root(), "sshd", *command]
        self._log = (folder / "log").open("wb")
        self._server = subprocess.Popen(
            command, stderr=self._log, env={**os.environ, "LD_LIBRARY_PATH": str(libraries)}
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    self._server.kill()
                    said = (folder / "log").read_text("utf-8", "replace").strip().splitlines()
                    raise UnavailableError(f"sshd does not start here: {' '.join(said[-2:])}") from None
                time.sleep(0.05)

    def _as_root(self) -> str:
        """A root's sshd wants a user and a folder of its own: in a mount namespace only it sees them."""
        return (
            f"cp /etc/passwd {self.folder}/passwd\n"
            f"sed -i 's#^root:.*#root:*:0:0:root:{self.home}:/bin/bash#; /^sshd:/d' {self.folder}/passwd\n"
            f"echo 'sshd:*:65533:65534::/run/sshd:/usr/sbin/nologin' >> {self.folder}/passwd\n"
            f"mount --bind {self.folder}/passwd /etc/passwd\n"
            f"mount -t tmpfs -o size=64k tmpfs {self.folder}/small\n"
            "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd\n"
            'exec "$@"'
        )


def _find_sshd() -> tuple[Path, Path]:
    """The server and a folder of libraries it may need."""
    for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd"):
        if Path(path).is_file():
            return Path(path), Path("/nonexistent")
    root = unpacked(["openssh-server", "libwrap0"])
    return root / "usr/sbin/sshd", next((root / "usr/lib").glob("*-linux-gnu*"))
