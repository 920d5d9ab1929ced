"""The device verbs, shared by the ``obert-edge`` command and by ``python3 model.oeb``.

Each function does one verb and returns what to print; ``command_line`` declares the verbs' options, and the
two commands only parse them and print.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

from obert_edge.device.progress import Progress
from obert_edge.errors import InputError, ObertEdgeError, UsageError

PathLike = Union[str, Path]


class Outcome(NamedTuple):
    """What a verb found.

    Args:
        exit_code: what the command returns.
        text: the result as people read it.
        data: the same for ``--json``.
    """

    exit_code: int
    text: str
    data: Dict[str, Any]


def bench(
    path: PathLike,
    *,
    batch_size: int = 1,
    sequence_length: int = 128,
    threads: Optional[int] = None,
    implementation: Optional[str] = None,
    baselines: Sequence[str] = (),
    duration: float = 3.0,
    iterations: Optional[int] = None,
    min_speedup: Optional[float] = None,
    profile: bool = False,
    progress: Optional[Progress] = None,
) -> Outcome:
    """Measure a bundle; exit code 1 when the speed-up is below ``min_speedup``.

    The arguments are those of :func:`obert_edge.device.bench.benchmark.benchmark`.
    """
    from obert_edge.device.bench.benchmark import benchmark

    report = benchmark(
        path,
        batch_size=batch_size,
        sequence_length=sequence_length,
        threads=threads,
        implementation=implementation,
        baselines=baselines,
        duration=duration,
        iterations=iterations,
        profile=profile,
        progress=progress,
    )
    outcome = Outcome(0, report.to_text(), report.to_dict())
    if min_speedup is None:
        return outcome
    try:
        report.require(min_speedup)
    except ObertEdgeError as error:
        failed = failure(error)
        return Outcome(failed.exit_code, f"{outcome.text}\n\n{failed.text}", {**outcome.data, **failed.data})
    return outcome


def verify(
    path: PathLike,
    *,
    implementation: Optional[str] = None,
    threads: Optional[int] = None,
    progress: Optional[Progress] = None,
) -> Outcome:
    """Check hashes and embedded cases; exit code 1 when a case differs.

    The arguments are those of :func:`obert_edge.device.runtime.verify.verify`.
    """
    from obert_edge.device.runtime.verify import verify as run

    verification = run(path, implementation, threads, progress)
    return Outcome(0 if verification.ok else 1, verification.to_text(), verification.to_dict())


def run(
    path: PathLike,
    texts: Sequence[str] = (),
    *,
    input_file: Optional[PathLike] = None,
    threads: Optional[int] = None,
    implementation: Optional[str] = None,
    options: Optional[Dict[str, Any]] = None,
) -> Outcome:
    """Answer the bundle's task for texts.

    Args:
        path: the bundle.
        texts: one text; or two: a pair, or a question and its context.
        input_file: JSON lines instead (or besides): each a text, a list of two, or an object such as
            ``{"question": ..., "context": ...}``; in a file whose name ends otherwise than in ``.jsonl`` or
            ``.json``, each line is a text.
        threads: see :func:`obert_edge.device.runtime.session.load`.
        implementation: the same.
        options: the task's own, such as ``{"top_k": 3}``.
    """
    from obert_edge.device.runtime.session import load

    items: List[Any] = []
    if len(texts) > 2:
        raise UsageError(
            f"{len(texts)} texts were given; expected one, or two for a pair",
            hint="put quotes around each text, or list the texts in a file for --input",
        )
    if texts:
        items.append(texts[0] if len(texts) == 1 else (texts[0], texts[1]))
    if input_file is not None:
        items += read_inputs(Path(input_file))
    if not items:
        raise UsageError("there is nothing to run", hint="give a text, or --input FILE.jsonl")
    with load(path, threads=threads, implementation=implementation) as session:
        predictions = session.predict(items, **(options or {}))
    plain = [prediction.to_dict() for prediction in predictions]
    text = "\n".join(json.dumps(_rounded(answer), ensure_ascii=False) for answer in plain)
    return Outcome(0, text, {"predictions": plain})


def inspect(path: PathLike) -> Outcome:
    """What a bundle holds; see :func:`obert_edge.device.commands.describe.describe`."""
    from obert_edge.device.commands.describe import describe

    text, data = describe(path)
    return Outcome(0, text, data)


def doctor(path: Optional[PathLike] = None) -> Outcome:
    """What this machine can run; exit code 3 when something stands in the way altogether."""
    from obert_edge.device.commands.doctor import doctor as examine

    diagnosis = examine(path)
    return Outcome(3 if diagnosis.worst == "error" else 0, diagnosis.to_text(), diagnosis.to_dict())


def failure(error: ObertEdgeError) -> Outcome:
    """What to print for an error: one line, and the fix."""
    data = {"error": type(error).__name__, "message": error.message, "fix": error.hint}
    return Outcome(error.exit_code, f"error: {error}", data)


def read_inputs(path: Path) -> List[Any]:
    """Texts of a file; see :func:`run`.

    Raises:
        InputError: the file cannot be read, or a line of a ``.jsonl`` file is not JSON of the expected shape.
    """
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as text: {error}", hint="give a UTF-8 file with one input per line"
        ) from error
    if path.suffix not in (".jsonl", ".json"):
        return list(lines)
    items: List[Any] = []
    for number, line in enumerate(lines, start=1):
        try:
            item = json.loads(line)
        except ValueError as error:
            raise InputError(
                f"line {number} of {path} is not JSON: {error}",
                hint='write one input per line, for instance {"text": "..."}',
            ) from error
        items.append(tuple(item) if isinstance(item, list) else item)
    return items


def _rounded(value: Any) -> Any:
    """Scores with four decimals, for people; vectors shortened."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        long_vector = len(value) > 16 and all(isinstance(item, float) for item in value)
        shown = [_rounded(item) for item in (value[:8] if long_vector else value)]
        return [*shown, f"... {len(value)} values"] if long_vector else shown
    return value


def to_json(data: Dict[str, Any]) -> str:
    """JSON as ``--json`` prints it: ASCII only, so that no locale of a device can fail on it."""
    return json.dumps(data, indent=1, default=_json_default)


def _json_default(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
