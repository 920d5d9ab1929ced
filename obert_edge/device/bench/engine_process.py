"""One engine of a benchmark in its own process: none shares memory, threads or imports with another."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

from obert_edge import errors
from obert_edge.errors import ObertEdgeError

#: What the worker's interpreter runs; its argument is this process's ``sys.path``, which may hold a bundle.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
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
            [sys.executable, *_interpreter_flags(), "-c", _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
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
