"""The worker process of a benchmark: it runs one engine, and times single runs on command.

Commands and replies are JSON, one on each line. The protocol has its own file descriptor: whatever an
engine's library prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, TextIO

import numpy as np

from obert_edge.device.runtime import machine
from obert_edge.errors import ObertEdgeError

#: One run of the batch; its result is not used.
Run = Callable[[], object]


class Worker:
    """Holds one loaded engine and its inputs; ``EngineProcess`` in the other process sends the commands."""

    def __init__(self) -> None:
        self._session: Any = None
        self._bind: Optional[Callable[[Dict[str, np.ndarray]], Run]] = None
        self._run: Optional[Run] = None

    def handle(self, command: str, arguments: Dict[str, Any]) -> Dict[str, Any]:
        """Carry out one command.

        Raises:
            ObertEdgeError: the command's own failures.
        """
        handlers: Dict[str, Callable[..., Dict[str, Any]]] = {
            "load_bundle": self.load_bundle,
            "prepare_baseline": self.prepare_baseline,
            "load_baseline": self.load_baseline,
            "first_run": self.first_run,
            "turn": self.turn,
            "memory": self.memory,
            "profile": self.profile,
        }
        return handlers[command](**arguments)

    def load_bundle(self, path: str, threads: int, implementation: Optional[str]) -> Dict[str, Any]:
        """Load our engine; the time to import what every program of ours imports is not part of it."""
        from obert_edge.device.runtime.session import load

        before = machine.peak_memory()
        start = time.perf_counter()
        session = load(path, threads=threads, implementation=implementation)
        elapsed = time.perf_counter() - start
        self._session = session

        def bind(inputs: Dict[str, np.ndarray]) -> Run:
            return lambda: session.run(**inputs)

        self._bind = bind
        return {
            "load_ms": elapsed * 1e3,
            "start_memory": before,
            "implementation": session.implementation,
        }

    def prepare_baseline(
        self, name: str, path: str, workdir: str, batch_size: int, sequence_length: int
    ) -> Dict[str, Any]:
        """Write the file a baseline loads, in another process than the one that loads it.

        So the memory that the translation takes does not count as the baseline's.
        """
        from obert_edge.device.bench.baselines import get_baseline

        artifact = get_baseline(name).prepare(
            Path(path), Path(workdir), batch_size=batch_size, sequence_length=sequence_length
        )
        return {"artifact": str(artifact), "bytes": _size(artifact)}

    def load_baseline(self, name: str, artifact: str, threads: int) -> Dict[str, Any]:
        """Load a baseline from the file it prepared."""
        from obert_edge.device.bench.baselines import get_baseline

        baseline = get_baseline(name)
        version = baseline.version  # imports the engine's package, which is no part of loading
        before = machine.peak_memory()
        start = time.perf_counter()
        run = baseline.load(Path(artifact), threads)
        elapsed = time.perf_counter() - start

        def bind(inputs: Dict[str, np.ndarray]) -> Run:
            ids, mask, types = (inputs[key] for key in ("input_ids", "attention_mask", "token_type_ids"))
            return lambda: run(ids, mask, types)

        self._bind = bind
        return {
            "load_ms": elapsed * 1e3,
            "start_memory": before,
            "implementation": version,
        }

    def first_run(self, input_ids: List[List[int]], lengths: List[int]) -> Dict[str, Any]:
        """Set the inputs and run them once.

        Args:
            input_ids: [batch, sequence].
            lengths: tokens of each sequence; what is behind them is padding.
        """
        assert self._bind is not None
        ids = np.asarray(input_ids, np.int64)
        kept = np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]
        inputs = {
            "input_ids": ids,
            "attention_mask": kept.astype(np.int64),
            "token_type_ids": np.zeros_like(ids),
        }
        self._run = self._bind(inputs)
        start = time.perf_counter()
        self._run()
        return {"first_run_ms": (time.perf_counter() - start) * 1e3}

    def turn(self, seconds: float, iterations: int, warmup: int) -> Dict[str, Any]:
        """Time single runs until both ``seconds`` and ``iterations`` are reached.

        Args:
            seconds: of timed runs; 0: only ``iterations`` count.
            iterations: at least this many.
            warmup: runs before, not timed: they let the caches and the clock speed settle after the pause.
        """
        run = self._run
        assert run is not None
        for _ in range(warmup):
            run()
        clock = time.perf_counter_ns
        times: List[int] = []
        begin = clock()
        end = begin + int(seconds * 1e9)
        while len(times) < iterations or clock() < end:
            start = clock()
            run()
            times.append(clock() - start)
        return {"nanoseconds": times}

    def memory(self) -> Dict[str, Any]:
        """Peak memory so far."""
        return {"peak_memory": machine.peak_memory()}

    def profile(self, runs: int) -> Dict[str, Any]:
        """Nanoseconds of each run and op; and the machine's peaks, the best of about four times."""
        session = self._session
        assert session is not None and self._run is not None
        nanoseconds = []
        peaks: Dict[str, float] = {}
        for number in range(runs):
            if number % -(-runs // 4) == 0:
                peaks = {name: max(rate, peaks.get(name, 0.0)) for name, rate in _peaks(session).items()}
            with session.profiling() as recorded:
                self._run()
            nanoseconds.append(recorded.nanoseconds)
        return {"nanoseconds": nanoseconds, "peaks": peaks}


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer commands until the other side closes its end."""
    worker = Worker()
    for line in requests:
        request = json.loads(line)
        try:
            reply = worker.handle(request.pop("command"), request)
        except ObertEdgeError as error:
            reply = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        except Exception as error:  # a baseline's library may raise anything; the parent names the engine
            reply = {"error": "", "message": f"{type(error).__name__}: {error}", "hint": ""}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    """Serve on stdin and what was stdout; stdout itself becomes stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        serve(sys.stdin, replies)
    except KeyboardInterrupt:
        sys.exit(130)


def _peaks(session: Any) -> Dict[str, float]:
    """Of this machine with the session's kernels and threads; empty where the engine does not know them."""
    from obert_edge.device.roofline.measure import measure_peaks
    from obert_edge.device.roofline.work import weight_bytes

    found = measure_peaks(
        session.library, session.implementation, session.threads, weight_bytes(session.program)
    )
    return {} if found is None else found.to_dict()


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return (
        path.stat().st_size
        if path.is_file()
        else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    )
