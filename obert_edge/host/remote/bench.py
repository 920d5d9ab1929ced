"""``bench --device``: the same benchmark on one device after another, and one table of all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

from obert_edge import errors
from obert_edge.device.bench.benchmark import check_min_speedup
from obert_edge.device.commands.command_line import VERBS
from obert_edge.device.commands.verbs import Outcome
from obert_edge.device.progress import Progress, silent
from obert_edge.device.text_table import megabytes, milliseconds, text_table
from obert_edge.errors import DeviceError, ObertEdgeError
from obert_edge.host.remote.device import put
from obert_edge.host.remote.ssh import KILLED, Address, Connection, quote


@dataclass(frozen=True)
class Result:
    """What one device answered.

    Args:
        address: the device.
        status: exit code of its ``bench``, or of the error.
        report: the report as ``bench --json`` prints it; ``None`` when there is none.
        error: what went wrong; a speed-up below ``min_speedup`` counts as that.
    """

    address: Address
    status: int
    report: Optional[Dict[str, Any]] = None
    error: Optional[ObertEdgeError] = None

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        error = self.error and {
            "error": type(self.error).__name__,
            "message": self.error.message,
            "fix": self.error.hint,
        }
        return {"device": str(self.address), "status": self.status, "report": self.report, "error": error}


def bench_devices(
    bundle: Union[str, Path],
    devices: Sequence[str],
    *,
    progress: Optional[Progress] = None,
    **options: Any,
) -> Outcome:
    """Measure a bundle on devices; one that fails does not keep the others from being measured.

    Args:
        bundle: the ``.oeb`` file here.
        devices: addresses, ``ssh://user@host[:path]``.
        progress: told the device that is next, and the end.
        options: those of ``bench``, such as ``batch_size`` or ``baselines``; one that is ``None`` or left out
            has its default on the device.

    Returns:
        The table; the exit code is the worst of all devices.

    Raises:
        UsageError: an address is not one, or a least speed-up is asked for without a baseline.
    """
    addresses = [Address.parse(text) for text in devices]
    check_min_speedup(options.get("min_speedup"), options.get("baselines", ()))
    declared = {option.parameter: option for option in VERBS["bench"].options}
    arguments = ["--json"]
    for name, value in options.items():
        arguments += declared[name].words(value)
    tell = progress or silent
    results: List[Result] = []
    for number, address in enumerate(addresses):
        tell(f"measuring on {address}", number, len(addresses))
        results.append(_bench(Path(bundle), address, arguments))
    tell("done", len(addresses), len(addresses))
    data = {"bundle": str(bundle), "devices": [result.to_dict() for result in results]}
    return Outcome(max(result.status for result in results), _to_text(bundle, results), data)


def _bench(bundle: Path, address: Address, arguments: Sequence[str]) -> Result:
    try:
        with Connection(address) as connection:
            path = address.file(bundle.name)
            put(connection, bundle, path)
            # A path that starts with a dash would be an option of the interpreter.
            place = path if path.startswith("/") else f"./{path}"
            answer = connection.run(["python3", place, "bench", *arguments])
    except ObertEdgeError as error:
        return Result(address, error.exit_code, error=error)
    try:
        report = json.loads(answer.output)
    except ValueError:
        failed = _no_report(address, answer.status, answer.errors, quote(["python3", place, "bench"]))
        return Result(address, failed.exit_code, error=failed)
    failure: Optional[ObertEdgeError] = None
    if "error" in report:
        kind = getattr(errors, str(report["error"]), ObertEdgeError)
        failure = kind(str(report["message"]), hint=str(report["fix"]))
    return Result(address, answer.status, report if "engine" in report else None, failure)


def _no_report(address: Address, status: int, complaints: str, command: str) -> DeviceError:
    if status == KILLED:
        return DeviceError(
            f"bench was killed on {address}: the device has probably run out of memory",
            hint="use a smaller batch size or fewer baselines, or prune further",
        )
    last = complaints.splitlines()[-1] if complaints else "it printed nothing"
    return DeviceError(
        f"bench ended on {address} with status {status} and no report: {last}",
        hint=f"run `{command}` there to see all it says",
    )


def _to_text(bundle: Union[str, Path], results: Sequence[Result]) -> str:
    headers = ["device", "CPU", "engine", "p50 ms", "p90", "seq/s", "load ms", "memory", "we are faster"]
    rows: List[List[str]] = []
    notes: List[str] = []
    for result in results:
        if result.report is not None:
            rows += _rows(result.address, result.report)
            notes += [f"{result.address}: {note}" for note in _notes(result.report)]
        if result.error is not None:
            notes.append(f"{result.address}: error: {result.error}")
    head = f"{bundle} on {len(results)} device{'s' * (len(results) != 1)}"
    reports = [result.report for result in results if result.report is not None]
    if reports:
        one = reports[0]
        head += f", batch size {one['batch_size']}, sequence length {one['sequence_length']}"
    return "\n".join([head, *(["", text_table(headers, rows), ""] if rows else []), *notes])


def _rows(address: Address, report: Dict[str, Any]) -> List[List[str]]:
    rows: List[List[str]] = []
    for measured in [report["engine"], *report["baselines"].values()]:
        first = not rows
        latency, ratio = measured["latency_ms"], report["ratios"].get(measured["name"])
        memory = measured.get("peak_memory")
        rows.append(
            [
                str(address) if first else "",
                f"{report['environment']['cpu']}, {report['threads']} threads" if first else "",
                f"{measured['name']} {measured['implementation']}".strip(),
                milliseconds(latency["p50"]),
                milliseconds(latency["p90"]),
                f"{measured['throughput']:.1f}",
                f"{measured['load_ms']:.0f}",
                megabytes(memory) if memory else "?",
                f"{ratio['median']:.2f}x ({ratio['low']:.2f}-{ratio['high']:.2f})" if ratio else "",
            ]
        )
    return rows


def _notes(report: Dict[str, Any]) -> List[str]:
    """What a reader must know to believe the row."""
    environment = report["environment"]
    notes = [f"{name}: {reason}" for name, reason in report["missing"].items()]
    if environment.get("emulation"):
        notes.append(
            f"WARNING: {environment['emulation']}: these times say nothing, and no speed-up is given"
        )
    word = report.get("throttled_after")
    if word not in (None, "0x0"):
        notes.append(f"WARNING: the board reports throttling ({word}); cool it and repeat")
    governor = environment.get("governor")
    if governor not in (None, "performance"):
        notes.append(f"frequency governor {governor}")
    degrees = [environment.get("temperature_c"), report.get("temperature_after_c")]
    if None not in degrees:
        notes.append(f"temperature {degrees[0]:.0f} C before, {degrees[1]:.0f} C after")
    return notes
