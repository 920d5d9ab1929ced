"""The device verbs, shared by the ``obert-edge`` command and by ``python3 model.oeb``.

Each function does one verb and returns what to print; ``command_line`` declares the verbs' options, and the
two commands only parse them and print.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from obert_edge.device.progress import Progress
from obert_edge.errors import InputError, ObertEdgeError, UsageError

if TYPE_CHECKING:
    from obert_edge.device.pipelines import Pipeline, Prediction
    from obert_edge.device.runtime.session import Session

PathLike = Union[str, Path]
#: Endings of files whose lines are rows of a table, not texts.
_TABLES = (".csv", ".tsv", ".conll")


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


#: What to print when the user stops a verb.
INTERRUPTED = Outcome(130, "interrupted", {"error": "Interrupted", "message": "interrupted", "fix": ""})


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
    from obert_edge.device.bench.benchmark import benchmark, check_min_speedup

    check_min_speedup(min_speedup, baselines)
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
    trusted_keys: Sequence[str] = (),
    progress: Optional[Progress] = None,
) -> Outcome:
    """Check hashes and embedded cases; exit code 1 when a case differs.

    Where the bundle is for another CPU, its cases cannot be run here. With keys, whose question has been
    answered, that is exit code 0, without them 3.

    The arguments are those of :func:`obert_edge.device.runtime.verify.verify`; no keys: none are asked for.
    """
    from obert_edge.device.runtime.verify import verify as run

    verification = run(path, implementation, threads, progress, trusted_keys or None)
    text, data = verification.to_text(), verification.to_dict()
    if verification.unsupported is None:
        return Outcome(0 if verification.ok else 1, text, data)
    if verification.trusted:
        return Outcome(0, text, data)
    failed = failure(verification.unsupported)
    return Outcome(failed.exit_code, text, {**data, **failed.data})


def run(
    path: PathLike,
    texts: Sequence[str] = (),
    *,
    input_file: Optional[PathLike] = None,
    lines: Optional[str] = None,
    threads: Optional[int] = None,
    implementation: Optional[str] = None,
    trusted_keys: Sequence[str] = (),
    options: Optional[Dict[str, Any]] = None,
) -> Outcome:
    """Answer the bundle's task for texts.

    Args:
        path: the bundle.
        texts: one text; or two, which are one input: a pair, or a question and its context. Where the task
            takes single texts or embeds them, any number, each an input of its own.
        input_file: JSON lines instead (or besides): each a text, a list of two, or an object such as
            ``{"question": ..., "context": ...}``; in a file whose name ends otherwise than in ``.jsonl`` or
            ``.json``, each line is a text, an empty one too. ``"-"``: standard input.
        lines: ``"text"`` or ``"json"``, whatever the file is called.
        threads: see :func:`obert_edge.device.runtime.session.load`.
        implementation: the same.
        trusted_keys: the same; none: whether the bundle is signed does not count.
        options: the task's own, such as ``{"top_k": 3}``.

    Returns:
        The predictions, and with them the task and the options in effect: an embedding whose ``normalize`` is
        true has the length 1, whatever ``Session.run`` gives.
    """
    from obert_edge.device.commands import task_options
    from obert_edge.device.pipelines import create_pipeline
    from obert_edge.device.runtime.session import load

    options = options or {}
    if lines is not None and input_file is None:
        raise UsageError(
            "--lines says what the lines of --input are, which was not given", hint="give --input FILE"
        )
    listed = read_inputs(Path(input_file), lines) if input_file is not None else []
    if not texts and not listed:
        raise UsageError("there is nothing to run", hint="give a text, or --input FILE.jsonl")
    with load(
        path, threads=threads, implementation=implementation, trusted_keys=trusted_keys or None
    ) as session:
        task_options.require(session.manifest, options)
        pipeline = create_pipeline(session.manifest, session.tokenizer, session, options)
        items = [*_given(pipeline, texts), *listed]
        _check_items(pipeline, items)
        predictions = _predicted(session, items, options)
        in_effect = task_options.in_effect(session.manifest, options)
    plain = [prediction.to_dict() for prediction in predictions]
    text = "\n".join(json.dumps(_rounded(answer), ensure_ascii=False) for answer in plain)
    return Outcome(0, text, {"predictions": plain, "task": session.manifest.task.type, "options": in_effect})


class Item(NamedTuple):
    """An input of ``run``, and where it stands, for errors."""

    value: Any
    where: str


def _given(pipeline: Pipeline, texts: Sequence[str]) -> List[Item]:
    """What the texts of a command line are to a task: inputs of their own, or together a pair."""
    if pipeline.texts_stand_alone():
        return [
            Item(text, "what was given" if len(texts) == 1 else f"text {number} of what was given")
            for number, text in enumerate(texts, start=1)
        ]
    if len(texts) > 2:
        first, second = pipeline.KEYS
        pair = f"two, a {first} and a {second}" if pipeline.PAIR else "one, or two for a pair"
        raise UsageError(
            f"{len(texts)} texts were given; expected {pair}",
            hint="put quotes around each text, or list the inputs in a file for --input",
        )
    return [Item(texts[0] if len(texts) == 1 else tuple(texts), "what was given")] if texts else []


def _check_items(pipeline: Pipeline, items: Sequence[Item]) -> None:
    """Name the place of an input that the task does not take, before any is run."""
    first, second = pipeline.KEYS
    for item in items:
        try:
            texts = pipeline.read(item.value)
        except InputError as error:
            raise InputError(
                f"{item.where}: {error.message}", hint=_input_hint(first, second, pipeline.PAIR)
            ) from error
        try:
            [text.encode() for text in texts if text is not None]
        except UnicodeEncodeError as error:
            raise InputError(
                f"{item.where} holds half a character (a lone surrogate) at {error.start}",
                hint="give UTF-8 text",
            ) from error


def _predicted(session: Session, items: Sequence[Item], options: Dict[str, Any]) -> List[Prediction]:
    """The answers; an input that the task refuses is looked for, so that the error can name its place."""
    try:
        predictions: List[Prediction] = session.predict([item.value for item in items], **options)
        return predictions
    except InputError:
        for item in items:
            try:
                session.predict([item.value], **options)
            except InputError as error:
                raise InputError(f"{item.where}: {error.message}", hint=error.hint) from error
        raise


def _input_hint(first: str, second: str, pair: Optional[bool]) -> str:
    """What to type for one input of a task, on the command line or in a file."""
    both = f'{{"{first}": ..., "{second}": ...}}'
    if pair is True:
        return f"give the {first} and the {second}, each in quotes, or lines {both}"
    also = "" if pair is False else f", or, for a pair, two texts or a line {both}"
    return f'give one text in quotes, or a line {{"{first}": ...}} for each{also}'


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


def read_inputs(path: Path, lines: Optional[str] = None) -> List[Item]:
    """Inputs of a file; see :func:`run`.

    Of texts every line is one, an empty one too; the end of the last line begins no further one. Of JSON
    lines blank ones are passed over.

    Raises:
        InputError: the file cannot be read, or a line of JSON is not JSON.
        UsageError: its name says that it is compressed, or a table, and not what its lines are.
    """
    name = "standard input" if str(path) == "-" else str(path)
    if str(path) == "-" and sys.stdin is None:
        raise InputError(
            "--input - reads standard input, and this process was started without one",
            hint="give a file, or pipe the inputs in",
        )
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error}", hint=_FILE_HINT) from error
    _check_kind(path, name, data, lines)
    try:
        text = data.decode("utf-8-sig")  # some editors mark their files
    except UnicodeDecodeError as error:
        raise InputError(f"{name} cannot be read as text: {error}", hint=_FILE_HINT) from error
    is_json = lines == "json" if lines else path.suffix.lower() in (".jsonl", ".json")
    # Only a line feed ends a line: str.splitlines() would also cut texts at the separators of Unicode.
    found = text.split("\n")
    if not found[-1]:
        found.pop()
    items = []
    for number, line in enumerate(found, start=1):
        line = line[:-1] if line.endswith("\r") else line
        where = f"line {number} of {name}"
        if not is_json:
            items.append(Item(line, where))
        elif line.strip():
            items.append(Item(_parsed(line, where), where))
    return items


_FILE_HINT = "give a UTF-8 file with one input per line"


def _check_kind(path: Path, name: str, data: bytes, lines: Optional[str]) -> None:
    """Refuse a file whose lines are no inputs."""
    if data[:2] == b"\x1f\x8b":
        raise UsageError(
            f"{name} is compressed by gzip; expected lines of text",
            hint="unpack it first: `gunzip -c FILE.gz | obert-edge run BUNDLE --input -`",
        )
    if lines is None and path.suffix.lower() in _TABLES:
        raise UsageError(
            f"{name} is a table by its name ({path.suffix}), whose rows are no texts; expected one input per "
            "line",
            hint="write one text per line, or JSON lines (FILE.jsonl), or pass --lines text where each whole "
            "row is a text",
        )


def _parsed(line: str, where: str) -> Any:
    try:
        item = json.loads(line, object_pairs_hook=functools.partial(_without_twice, where))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where} is not JSON: {error}", hint='write one input per line, for instance {"text": "..."}'
        ) from error
    return tuple(item) if isinstance(item, list) else item


def _without_twice(where: str, pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """The object of its pairs; refuses a key that is there twice, as data files do."""
    made = dict(pairs)
    if len(made) < len(pairs):
        left = iter(made)
        twice = next(key for key, _ in pairs if key != next(left, None))
        raise InputError(f"{where} has the key {twice[:60]!r} twice", hint="keep the right one")
    return made


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
