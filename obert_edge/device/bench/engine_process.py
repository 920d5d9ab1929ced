"""One engine of a benchmark in its own process: none shares memory, threads or imports with another."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

import obert_edge
from obert_edge import errors
from obert_edge.errors import ObertEdgeError

#: What the worker's interpreter runs; its argument is the path to import from, which may hold a bundle.
#: `-c` puts the working directory first, and a file there may be called like a module.
_BOOT = (
    "import sys; sys.path[:] = [entry for entry in sys.path if entry]; "
    "import json; sys.path[:] = json.loads(sys.argv[1]); "
    "from obert_edge.device.bench.worker import main; main()"
)


class EngineProcess:
    """A process that runs one engine (``bench/worker.py``); a context manager that ends it.

    Args:
        name: what to call the engine in errors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, *_interpreter_flags(), "-c", _BOOT, json.dumps(import_path())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def call(self, command: str, **arguments: Any) -> Dict[str, Any]:
        """Carry out a command of :class:`obert_edge.device.bench.worker.Worker` and wait for the reply.

        Raises:
            ObertEdgeError: what the command raised, of the same class; or the process died.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._died()
        reply: Dict[str, Any] = json.loads(line)
        if "error" in reply:
            if not reply["error"]:
                raise ObertEdgeError(
                    f"{self.name} failed: {reply['message']}",
                    hint=f"run the command again without {self.name}",
                )
            kind: Type[ObertEdgeError] = getattr(errors, reply["error"])
            raise kind(reply["message"], hint=reply["hint"])
        return reply

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _died(self) -> ObertEdgeError:
        status = self._process.wait()
        how = f"ended with status {status}"
        hint = "run the command again with fewer baselines; the lines above may say why"
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
            if status == -signal.SIGKILL:
                hint = "the system may have run out of memory: use a smaller batch size or fewer baselines"
        return ObertEdgeError(f"the process that ran {self.name} {how}", hint=hint)


def import_path() -> List[str]:
    """Where a process of ours may import from: this process's ``sys.path`` without the working directory.

    Where that holds obert-edge itself, a checkout that is not installed, it comes last: a file there hides no
    module.
    """
    here = Path.cwd().resolve()
    # Not resolved: an environment's folders may be links.
    found = [str(Path.cwd() / entry) for entry in sys.path if entry]
    kept = [entry for entry in found if Path(entry).resolve() != here]
    home = Path(obert_edge.__path__[0]).resolve().parent
    return [*kept, str(home)] if home == here else kept


def _interpreter_flags() -> List[str]:
    """What keeps the worker's interpreter as bare as this one: a device may run it with ``-I -S``."""
    flags = []
    if sys.flags.isolated:
        flags.append("-I")
    if sys.flags.no_site:
        flags.append("-S")
    if sys.dont_write_bytecode:
        flags.append("-B")
    return flags
