#!/usr/bin/env python3
"""One table and two plots of a task: accuracy against size and against measured latency.

    tools/studies/frontier.py docs/results/frontier_sst2.yaml --bundles DIR --output docs/results/frontier_sst2.json

The YAML names, per row, the bundle (relative to DIR), the results file its score is in (relative to the YAML)
with the row there, and the command that makes both. Scores are read, never computed here; latency is
measured now, every bundle interleaved with ONNX Runtime FP32 on the dense model, each in its own process.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Tuple

import yaml

from obert_edge.device.bench.benchmark import benchmark
from obert_edge.device.bench.comparison import Comparison
from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.files import atomic_file
from tools.bench.baseline_page import table
from tools.bench.charts import Points, point_chart
from tools.reproduce.measure import machine  # noqa: E402

PEER = "onnxruntime-fp32"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, help="YAML: title, dense, metric, rows")
    parser.add_argument("--bundles", type=Path, required=True, help="folder the YAML's bundles are in")
    parser.add_argument("--output", type=Path, required=True, help="JSON; .md and two .svg beside it")
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--duration", type=float, default=1.5, help="seconds of timed runs per engine")
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    try:
        content = yaml.safe_load(options.rows.read_text(encoding="utf-8"))
        rows = [measured(row, content, options) for row in content["rows"]]
    except ObertEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    write(options.output, content, rows, options)
    return 0


def measured(
    row: Mapping[str, Any], content: Mapping[str, Any], options: argparse.Namespace
) -> Dict[str, Any]:
    """One row with its score, bytes and latency."""
    found = find(options.rows.parent / row["results"], row["row"])
    bundle = options.bundles / row["bundle"]
    if not bundle.is_file():
        raise UsageError(f"{bundle} does not exist", hint=f"make it: {row['command']}")
    if bundle.stat().st_size != found["bytes"]:
        raise UsageError(
            f"{bundle} has {bundle.stat().st_size} bytes; {row['results']} is about one of {found['bytes']}",
            hint="point --bundles at the very bundles that were scored",
        )
    report = benchmark(
        bundle,
        sequence_length=options.sequence_length,
        threads=options.threads,
        baselines=[Comparison(PEER, bundle=options.bundles / content["dense"], name=PEER)],
        duration=options.duration,
        rounds=options.rounds,
    )
    ratio = report.ratios[PEER]
    print(f"{row['name']}: {report.latency_ms.p50:.2f} ms, {ratio.median:.1f}x", flush=True)
    return {
        **{key: row[key] for key in ("name", "series", "recipe", "command")},
        "score": found["metrics"][content["metric"]],
        "n": found["n"],
        "bytes": found["bytes"],
        "latency_ms": report.latency_ms.p50,
        "peer_latency_ms": report.baselines[PEER].latency_ms.p50,
        "speedup": [ratio.median, ratio.low, ratio.high],
    }


def find(path: Path, wanted: Mapping[str, Any]) -> Dict[str, Any]:
    """The one row of a results file whose values are those wanted.

    Raises:
        UsageError: there is none, or more than one.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    rows: List[Dict[str, Any]] = content.get("rows") or content["stages"]
    fits = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    if len(fits) != 1:
        raise UsageError(f"{path} has {len(fits)} rows like {dict(wanted)}", hint="name values of one row")
    return fits[0]


def picture(
    content: Mapping[str, Any],
    rows: List[Dict[str, Any]],
    unit: str,
    value: Callable[[Dict[str, Any]], float],
) -> str:
    """The plot of the score against one cost."""
    series: Dict[str, List[Tuple[float, float, str]]] = {}
    for row in rows:
        series.setdefault(row["series"], []).append((value(row), row["score"], row["name"]))
    return point_chart(Points(content["title"], unit, content["metric"], series))


def write(
    path: Path, content: Mapping[str, Any], rows: List[Dict[str, Any]], options: argparse.Namespace
) -> None:
    """JSON, table and plots."""
    document = {
        "title": content["title"],
        "metric": content["metric"],
        "threads": options.threads,
        "sequence_length": options.sequence_length,
        "machine": machine(),
        "rows": rows,
    }
    dense = rows[0]["score"]
    lines = [
        f"# {content['title']}",
        "",
        f"    tools/studies/frontier.py {options.rows.name} --bundles DIR --output {path.name}",
        "",
        f"{content['note']} Latency: 1 x {options.sequence_length} tokens, {options.threads} threads,"
        " interleaved with ONNX Runtime FP32 on the dense model"
        f" ({rows[0]['peer_latency_ms']:.1f} ms in the first row's run); speed-up with its 5th and 95th"
        " percentile over rounds.",
        "",
        *table(
            ["model", content["metric"], "of the first row", "MB", "ms", "over ONNX Runtime FP32", "recipe"],
            [
                [
                    row["name"],
                    f"{row['score']:.2f}",
                    f"{100 * row['score'] / dense:.1f} %",
                    f"{row['bytes'] / 1e6:.1f}",
                    f"{row['latency_ms']:.2f}",
                    "{:.1f}x ({:.1f}-{:.1f})".format(*row["speedup"]),
                    f"`{row['recipe']}`",
                ]
                for row in rows
            ],
        ),
        "",
        "Commands, in the order of the rows:",
        "",
        *[f"* {row['name']}: `{row['command']}`" for row in rows],
        "",
    ]
    pictures = {
        "size": picture(content, rows, "MB", lambda row: row["bytes"] / 1e6),
        "latency": picture(content, rows, "ms", lambda row: row["latency_ms"]),
    }
    for name, picture_text in pictures.items():
        place = path.with_name(f"{path.stem}_{name}.svg")
        with atomic_file(place) as temporary:
            Path(temporary).write_text(picture_text, encoding="utf-8")
        lines.append(f"![{name}]({place.name})")
    with atomic_file(path) as temporary:
        Path(temporary).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    with atomic_file(path.with_suffix(".md")) as temporary:
        Path(temporary).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
