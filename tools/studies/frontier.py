r"""Make one table and two plots of a task: accuracy against size and against measured latency.

    python -m tools.studies.frontier docs/results/frontier_sst2.yaml --bundles DIR \
        --output docs/results/frontier_sst2.json

The YAML names, for each row, the bundle (relative to DIR), the results file its score is in (relative to the
YAML) with the row there, and the command that makes both. Scores are read, never computed here; latency is
measured now, every bundle interleaved with ONNX Runtime FP32 on the dense model, each in its own process.

Needs: a quiet machine, the bundles that were scored, and the package onnxruntime.
Takes: by estimate 10 seconds for each row.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import yaml

from obert_edge.device.bench.benchmark import benchmark
from obert_edge.device.bench.comparison import Comparison
from obert_edge.errors import UsageError
from obert_edge.files import atomic_file
from tools import command_line
from tools.charts import Points, point_chart
from tools.machine import training_facts
from tools.markdown import table

#: The baseline every bundle is interleaved with; it runs the dense model.
BASELINE = "onnxruntime-fp32"


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Measure the rows and write the files.

    Raises:
        UsageError: a bundle is missing or is not the one that was scored, or a row of the YAML fits no
            result.
    """
    parser = command_line.parser("tools.studies.frontier", __doc__)
    parser.add_argument("rows", type=Path, help="YAML file with title, note, dense, metric and rows")
    parser.add_argument("--bundles", type=Path, required=True, help="folder the YAML's bundles are in")
    parser.add_argument("--output", type=Path, required=True, help="JSON file; .md and two .svg go beside it")
    parser.add_argument("--sequence-length", type=int, default=128, help="tokens (default: 128)")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument(
        "--duration", type=float, default=1.5, help="seconds of timed runs per engine (default: 1.5)"
    )
    parser.add_argument("--rounds", type=int, default=12, help="turns of each engine (default: 12)")
    options = parser.parse_args(arguments)
    content = yaml.safe_load(options.rows.read_text(encoding="utf-8"))
    rows = [measured(row, content, options) for row in content["rows"]]
    document = {
        "title": content["title"],
        "metric": content["metric"],
        "threads": options.threads,
        "sequence_length": options.sequence_length,
        "machine": training_facts(),
        "rows": rows,
    }
    texts = {options.output.name: json.dumps(document, indent=1) + "\n"}
    texts.update(pages(document, content["note"], options.rows.name, options.output.stem))
    for name, text in texts.items():
        with atomic_file(options.output.with_name(name)) as temporary:
            Path(temporary).write_text(text, encoding="utf-8")


def measured(
    row: Mapping[str, Any], content: Mapping[str, Any], options: argparse.Namespace
) -> Dict[str, Any]:
    """One row with its score, bytes and latency.

    Raises:
        UsageError: the bundle is missing, or is not the one that was scored.
    """
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
        baselines=[Comparison(BASELINE, bundle=options.bundles / content["dense"], name=BASELINE)],
        duration=options.duration,
        rounds=options.rounds,
    )
    ratio = report.ratios[BASELINE]
    print(f"{row['name']}: {report.latency_ms.p50:.2f} ms, {ratio.median:.1f}x", flush=True)
    return {
        **{key: row[key] for key in ("name", "series", "recipe", "command")},
        "score": found["metrics"][content["metric"]],
        "n": found["n"],
        "bytes": found["bytes"],
        "latency_ms": report.latency_ms.p50,
        "baseline_latency_ms": report.baselines[BASELINE].latency_ms.p50,
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


def picture(document: Mapping[str, Any], unit: str, value: Callable[[Dict[str, Any]], float]) -> str:
    """The plot of the score against one cost."""
    series: Dict[str, List[Tuple[float, float, str]]] = {}
    for row in document["rows"]:
        series.setdefault(row["series"], []).append((value(row), row["score"], row["name"]))
    return point_chart(Points(document["title"], unit, document["metric"], series))


def pages(document: Mapping[str, Any], note: str, rows_name: str, stem: str) -> Dict[str, str]:
    """The page and its plots, by file name.

    Args:
        document: the content of the JSON file.
        note: what the YAML says of the rows, a sentence a line.
        rows_name: name of the YAML file.
        stem: name of the files, without their endings.
    """
    rows = document["rows"]
    dense = rows[0]["score"]
    pictures = {
        f"{stem}_size.svg": picture(document, "MB", lambda row: row["bytes"] / 1e6),
        f"{stem}_latency.svg": picture(document, "ms", lambda row: row["latency_ms"]),
    }
    lines = [
        f"# {document['title']}",
        "",
        f"    python -m tools.studies.frontier {rows_name} --bundles DIR --output {stem}.json",
        "",
        note.strip(),
        f"Latency: 1 x {document['sequence_length']} tokens, {document['threads']} threads,"
        " interleaved with ONNX Runtime FP32 on the dense model"
        f" ({rows[0]['baseline_latency_ms']:.1f} ms in the first row's run); speed-up with its 5th and 95th"
        " percentile over rounds.",
        "",
        *table(
            ["model", document["metric"], "of the first row", "MB", "ms", "over ONNX Runtime FP32", "recipe"],
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
        "## Commands",
        "",
        *[f"* {row['name']}: `{row['command']}`" for row in rows],
        "",
        f"![size]({stem}_size.svg)",
        f"![latency]({stem}_latency.svg)",
    ]
    return {f"{stem}.md": "\n".join(lines) + "\n", **pictures}


if __name__ == "__main__":
    sys.exit(command_line.run(main))
