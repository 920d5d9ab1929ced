"""The page and the plots of what tools.bench.baselines measured: everything is read from its JSON file."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from obert_edge.device.bench.baselines import NAMES
from obert_edge.device.text_table import milliseconds
from tools.bench.baseline_cases import CASES, METRICS, Goal
from tools.charts import Bars, Lines, bar_chart, line_chart
from tools.markdown import table

#: By name of the case, what one run of tools.bench.baselines found.
Results = Dict[str, Any]


def markdown(document: Dict[str, Any], plots: Sequence[str]) -> str:
    """The page, in Markdown.

    Args:
        document: the content of the JSON file.
        plots: names of the plots in the page's folder.
    """
    results: Results = document["cases"]
    baselines = _baselines(results)
    lines = [
        f"# {document.get('heading', 'Speed against other engines')}",
        "",
        *dict.fromkeys(f"    {result['command']}" for result in results.values()),
        "",
        f"{len(results)} cases, {document['wall_seconds'] / 60:.1f} minutes of measuring in all.",
        "Random weights with the given pattern; the same token ids for all; each engine in its own process, "
        "taking turns, round after round.",
        "A speed-up is the median over rounds of the ratio within a round, with its 5th and 95th percentile.",
        "",
    ]
    lines += _warnings(results)
    lines += ["## Goals", "", *table(_GOAL_HEADERS, list(_goal_rows(results))), ""]
    lines += [f"![{name}]({name})" for name in plots]
    lines += ["", "## Latency in ms: p50 (p90)", ""]
    lines += table(
        ["case", "batch x length", "threads", "kernels", "obert-edge", *baselines],
        _latencies(results, baselines),
    )
    lines += ["", "## Speed-up of obert-edge", ""]
    lines += table(["case", *baselines], _speedups(results, baselines))
    lines += ["", "## Load time in ms / peak memory of the process in MB / file in MB", ""]
    lines += table(["case", "obert-edge", *baselines], _footprints(results, baselines))
    lines += ["", "## Machine and versions", "", *_circumstances(document)]
    return "\n".join(lines) + "\n"


def plots(document: Dict[str, Any]) -> Dict[str, str]:
    """SVG pictures by name: latency over length, and speed-up by case, as far as there are results."""
    results: Results = document["cases"]
    pictures = {}
    lengths = _by_length(results)
    if lengths:
        pictures["latency.svg"] = line_chart(
            Lines("BERT-base, 12 layers, batch 1: latency", "tokens", "ms", lengths)
        )
    bars = [
        (f"{CASES[name].title}, {_shape(results[name])}", goal.floor, goal.aim, value)
        for name, goal, value in _goals(results)
        if goal.metric == "speedup"
    ]
    if bars:
        pictures["speedups.svg"] = bar_chart(Bars("Speed-up by case (line: floor, ring: aim)", "times", bars))
    return pictures


_GOAL_HEADERS = ["case", "batch x length", "against", "floor", "aim", "measured", ""]


def _goal_rows(results: Results) -> Iterator[List[str]]:
    for name, goal, value in _goals(results):
        result = results[name]
        if goal.metric == "speedup":
            ratio = result["report"]["ratios"][goal.baseline]
            measured = f"{value:.2f}x ({ratio['low']:.2f}-{ratio['high']:.2f})"
            yield [
                CASES[name].title,
                _shape(result),
                goal.baseline,
                f"{goal.floor:g}x",
                f"{goal.aim:g}x" if goal.aim else "",
                measured,
                verdict(goal, value),
            ]
        else:
            unit, form = METRICS[goal.metric]
            aim = f"{goal.aim:g} {unit}" if goal.aim else ""
            shown = f"{format(value, form)} {unit}".strip()
            yield [goal.row, "", "", f"{goal.floor:g} {unit}".strip(), aim, shown, verdict(goal, value)]


def verdict(goal: Goal, value: float) -> str:
    """What the page says of a goal: ``met``, ``met, aim too`` or ``**missed**``."""
    better = 1.0 if goal.metric == "speedup" else -1.0
    if better * value < better * goal.floor:
        return "**missed**"
    return "met, aim too" if goal.aim is not None and better * value >= better * goal.aim else "met"


def _goals(results: Results) -> Iterator[Tuple[str, Goal, float]]:
    """The case's name, the goal and the measured value, of every goal that was measured."""
    for name, result in results.items():
        for goal in CASES[name].goals:
            value = _value(result["report"], goal)
            if value is not None:
                yield name, goal, value


def _value(report: Dict[str, Any], goal: Goal) -> Optional[float]:
    engine, latency = report["engine"], report["latency_ms"]
    if goal.metric == "speedup":
        ratio = report["ratios"].get(goal.baseline)
        return None if ratio is None else float(ratio["median"])
    peak = engine["peak_memory"]
    values: Dict[str, Optional[float]] = {
        "load": engine["load_ms"],
        "memory": None if peak is None else peak / 1e6,
        "file": engine["model_bytes"] / 1e6,
        "p99 / p50": latency.get("tail"),
    }
    return values[goal.metric]


def _baselines(results: Results) -> List[str]:
    """Labels of all baselines: those of obert_edge.device.bench in its order, then the cases' own."""
    seen = {label for result in results.values() for label in result["report"]["baselines"]}
    return [*(name for name in NAMES if name in seen), *sorted(seen - set(NAMES))]


def _shape(result: Any) -> str:
    report = result["report"]
    lengths = report.get("lengths")
    tokens = f"{min(lengths)}..{max(lengths)}" if lengths else report["sequence_length"]
    return f"{report['batch_size']} x {tokens}"


def _each(report: Dict[str, Any], baselines: Sequence[str], cell: Any) -> List[str]:
    """A cell for our engine and one for each baseline, empty where the case has no such baseline."""
    ran = report["baselines"]
    return [cell(report["engine"]), *(cell(ran[name]) if name in ran else "" for name in baselines)]


def _latencies(results: Results, baselines: Sequence[str]) -> List[List[str]]:
    def cell(measured: Any) -> str:
        latency = measured["latency_ms"]
        return f"{milliseconds(latency['p50'])} ({milliseconds(latency['p90'])})"

    return [
        [
            name,
            _shape(result),
            str(result["report"]["threads"]),
            result["report"]["engine"]["implementation"],
            *_each(result["report"], baselines, cell),
        ]
        for name, result in results.items()
    ]


def _speedups(results: Results, baselines: Sequence[str]) -> List[List[str]]:
    def cell(ratio: Any) -> str:
        return f"{ratio['median']:.2f}x ({ratio['low']:.2f}-{ratio['high']:.2f})"

    return [
        [name, *(cell(ratios[baseline]) if baseline in ratios else "" for baseline in baselines)]
        for name, ratios in ((name, result["report"]["ratios"]) for name, result in results.items())
    ]


def _footprints(results: Results, baselines: Sequence[str]) -> List[List[str]]:
    def cell(measured: Any) -> str:
        peak = measured["peak_memory"]
        memory = f"{peak / 1e6:.0f}" if peak else "?"
        return f"{measured['load_ms']:.0f} / {memory} / {measured['model_bytes'] / 1e6:.0f}"

    return [[name, *_each(result["report"], baselines, cell)] for name, result in results.items()]


def _warnings(results: Results) -> List[str]:
    """Lines that name the cases during which other programs, or other virtual machines, interfered."""
    busy = []
    for name, result in results.items():
        shares = result["report"].get("interference")
        if shares and max(shares["others"], shares["stolen"]) > result["interference_above"]:
            others, stolen = (f"{100 * shares[key]:.1f} %" for key in ("others", "stolen"))
            busy.append(f"* {name}: other processes {others}, the host of the virtual machine {stolen}")
    if not busy:
        return []
    return [
        "**The machine was busy during these cases (share of all CPUs): measure them again.**",
        "",
        *busy,
        "",
    ]


def _by_length(results: Results) -> Dict[str, List[Tuple[float, float]]]:
    """Series of (tokens, p50 in ms) of BERT-base at batch 1: ours by sparsity, and one of each baseline."""
    series: Dict[str, Dict[float, float]] = {}
    for name, result in results.items():
        case, report = CASES[name], result["report"]
        if case.batch_size != 1 or case.spec.hidden != 768 or case.spec.layers != 12 or case.implementation:
            continue
        if case.spec.pattern == "4x1":
            ours = f"obert-edge, {100 * case.spec.sparsity:.0f} % {case.spec.pattern}"
            series.setdefault(ours, {})[case.sequence_length] = report["latency_ms"]["p50"]
        for label, measured in report["baselines"].items():
            if label in NAMES:
                at = series.setdefault(label, {})
                at.setdefault(case.sequence_length, measured["latency_ms"]["p50"])
    return {name: sorted(points.items()) for name, points in series.items() if len(points) > 1}


def _circumstances(document: Dict[str, Any]) -> List[str]:
    results: Results = document["cases"]
    first = next(iter(results.values()))
    environment = first["report"]["environment"]
    packages: Dict[str, str] = {}
    missing: Dict[str, str] = {}
    for result in results.values():
        packages.update(result["report"]["environment"]["packages"])
        missing.update(result["report"]["missing"])
    lines = [f"* {key}: {value}" for key, value in first["machine"].items()]
    lines += [f"* CPU features: {' '.join(environment['features'])}", f"* {environment['system']}"]
    lines.append(
        f"* Python {environment['python']}, " + ", ".join(f"{k} {v}" for k, v in sorted(packages.items()))
    )
    lines += [f"* {key}: {value}" for key, value in document["flags"].items()]
    lines += [f"* not measured: {name}: {reason}" for name, reason in missing.items()]
    dates = sorted({result["date"] for result in results.values()})
    lines.append(f"* measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}")
    return lines
