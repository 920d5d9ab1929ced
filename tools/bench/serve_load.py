"""Load `obert-edge serve` with many clients, and hold its throughput against the engine's own limit.

    python -m tools.bench.serve_load model.oeb
    python -m tools.bench.serve_load model.oeb --clients 64 --seconds 60 --output docs/results/serving.md

Clients ask over the loopback for the embedding of one text at a time, each as soon as it has its last answer,
and compare every answer with the bits of `Session.encode`. The limit is what `encode` alone does with the
same texts, in batches of 32 sorted by length. Both run on the same CPUs, in turns, the clients on the others:
the server's reading and writing of HTTP has to come out of the engine's share.

Needs: an embedder's bundle, the extra `serve`, a quiet machine with two CPUs or more.
Takes: two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

import obert_edge
from obert_edge.device.bench.interference import CpuWatch
from obert_edge.device.runtime import machine
from obert_edge.errors import UsageError, VerificationError
from obert_edge.files import atomic_file
from tools import command_line
from tools.machine import speed_facts
from tools.markdown import table

ROOT = Path(__file__).resolve().parents[2]
NAME = "model"
#: Texts that are asked for; the more, the longer one run over all of them takes.
_TEXTS = 512
#: A line of a page that is a sentence, and neither code nor a row of a table.
_SENTENCE = re.compile(r"[A-Z].*[.!?:]")
_ENTRY = "from obert_edge.cli import main; main()"


@dataclass
class Outcome:
    """What the clients saw.

    Attributes:
        seconds: of each answered request.
        duration: seconds from the first request to the last answer.
        errors: requests that were answered with another status than 200, or not at all.
        wrong: answers with other bits than `encode`.
    """

    seconds: List[float] = field(default_factory=list)
    duration: float = 0.0
    errors: int = 0
    wrong: int = 0

    def add(self, other: Outcome) -> None:
        """Take in what was seen in another round."""
        self.seconds += other.seconds
        self.duration += other.duration
        self.errors += other.errors
        self.wrong += other.wrong


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = command_line.parser("tools.bench.serve_load", __doc__)
    parser.add_argument("bundle", type=Path, help="an embedder")
    parser.add_argument("--clients", type=int, default=64, help="(default: 64)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load in all (default: 60)")
    parser.add_argument("--rounds", type=int, default=6, help="of load, each after `encode` (default: 6)")
    parser.add_argument("--limit-seconds", type=float, default=5.0, help="of each `encode` (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="of the engine (default: 1)")
    parser.add_argument("--texts", type=Path, help="a file with one on each line (default: these pages)")
    parser.add_argument("--server-option", action="append", default=[], help="handed to `serve`; repeatable")
    parser.add_argument("--min-share", type=float, help="exit with 1 below this share of the limit")
    parser.add_argument("--output", type=Path, help="page to write; its figures go beside it as .json")
    parser.add_argument("--limit-only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    texts = read_texts(options.texts)
    if options.limit_only is not None:
        return _measure_limit(options, texts)
    figures = measure(options, texts)
    page = render(figures)
    print(page)
    if options.output is not None:
        with atomic_file(options.output) as temporary:
            temporary.write_text(page, encoding="utf-8")
        with atomic_file(options.output.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if figures["errors"] or figures["wrong"]:
        raise VerificationError(
            f"{figures['errors']} requests failed, {figures['wrong']} answers were wrong",
            hint="read the server's log above",
        )
    if options.min_share is not None and figures["share"] < options.min_share:
        raise VerificationError(
            f"the server reaches {figures['share']:.1%} of the limit; {options.min_share:.1%} were asked",
            hint="measure again on a quiet machine",
        )
    return 0


def read_texts(path: Optional[Path]) -> List[str]:
    """Lines of a file, or sentences of the documentation; always the same ones."""
    if path is not None:
        lines = path.read_text("utf-8").splitlines()
    else:
        pages = sorted((ROOT / "docs").rglob("*.md"))
        lines = [line for page in pages for line in page.read_text("utf-8").splitlines()]
        lines = [line for line in lines if _SENTENCE.fullmatch(line)]
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise UsageError(f"{path} has no text", hint="give a file with one on each line")
    random.Random(0).shuffle(found)
    return found[:_TEXTS]


def cpus(threads: int) -> Tuple[Set[int], Set[int]]:
    """CPUs of the engine and its server, and those of the clients; the same where there are too few."""
    usable = sorted(os.sched_getaffinity(0))
    own = set(usable[:threads])
    return own, set(usable[threads:]) or own


@contextlib.contextmanager
def only_on(chosen: Set[int]) -> Iterator[None]:
    """Keep this process on some CPUs as long as the context lasts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure(options: argparse.Namespace, texts: List[str]) -> Dict[str, Any]:
    """Run everything, on the clients' CPUs but for the engine and its server; the figures by name."""
    own, others = cpus(options.threads)
    with only_on(others):
        return _measure(options, texts, own)


def _measure(options: argparse.Namespace, texts: List[str], own: Set[int]) -> Dict[str, Any]:
    with obert_edge.load(options.bundle, threads=1) as session:
        vectors = session.encode(texts)
        tokens = [
            len(session.tokenizer.encode(text, max_length=session.manifest.model.max_length))
            for text in texts
        ]
        implementation = session.implementation
    rounds: List[Dict[str, float]] = []
    outcome = Outcome()
    limits = [run_limit(options, own)]
    with serving(options, own) as (host, port, process):
        bodies = [json.dumps({"model": NAME, "input": text, "encoding_format": "base64"}) for text in texts]
        expected = [base64.b64encode(vector.tobytes()) for vector in vectors]
        requests = [_request(host, body.encode()) for body in bodies]
        server_cpu = client_cpu = 0.0
        interferences = []
        for _ in range(options.rounds):
            at_start, own_start = cpu_seconds(process.pid), time.process_time()
            watch = CpuWatch([process.pid, os.getpid()])
            seconds = options.seconds / options.rounds
            one = asyncio.run(load(host, port, requests, expected, options.clients, seconds))
            used = cpu_seconds(process.pid) - at_start
            client_cpu += time.process_time() - own_start
            interferences.append(watch.read())
            limits.append(run_limit(options, own))
            rounds.append(_round(one, used, limits[-2:]))
            outcome.add(one)
            server_cpu += used
        counted = scrape(host, port)
    milliseconds = 1000 * np.array(outcome.seconds)
    throughput = len(milliseconds) / outcome.duration
    batches = counted["obert_edge_batch_texts_count"]
    seen = [one for one in interferences if one is not None]
    worst = max(seen, key=lambda one: one.others + one.stolen, default=None)
    limit_cpu = float(np.median([one["limit_cpu_ms"] for one in rounds]))
    return {
        "command": f"python -m tools.bench.serve_load {options.bundle.name} --clients {options.clients} "
        f"--seconds {options.seconds:g} --rounds {options.rounds} --threads {options.threads}",
        "machine": {"cpu": machine.cpu_model(), **speed_facts()},
        "kernels": implementation,
        "threads": options.threads,
        "clients": options.clients,
        "seconds": round(outcome.duration, 1),
        "texts": len(texts),
        "mean_tokens": round(float(np.mean(tokens)), 1),
        "most_tokens": max(tokens),
        "requests": len(milliseconds),
        "errors": outcome.errors,
        "wrong": outcome.wrong,
        "throughput": round(throughput, 1),
        "rounds": rounds,
        "limit": round(float(np.median([texts_per_second for texts_per_second, _ in limits])), 1),
        "share": round(float(np.median([one["share"] for one in rounds])), 4),
        "server_cpu_ms": round(1000 * server_cpu / len(milliseconds), 3),
        "limit_cpu_ms": round(limit_cpu, 3),
        "cpu_share": round(float(np.median([one["cpu_share"] for one in rounds])), 4),
        "p50_ms": round(float(np.percentile(milliseconds, 50)), 1),
        "p99_ms": round(float(np.percentile(milliseconds, 99)), 1),
        "max_ms": round(float(milliseconds.max()), 1),
        "texts_per_batch": round(counted["obert_edge_batch_texts_sum"] / batches, 1),
        "tokens_per_batch": round(counted["obert_edge_batch_tokens_sum"] / batches, 1),
        "server_cpu": round(server_cpu / outcome.duration, 3),
        "client_cpu": round(client_cpu / outcome.duration, 3),
        "separate_cpus": own != os.sched_getaffinity(0),
        "interference": worst.to_text() if worst is not None else "",
        "measure_again": worst is not None and worst.significant,
    }


def _round(outcome: Outcome, server_cpu: float, limits: Sequence[Tuple[float, float]]) -> Dict[str, float]:
    """The figures of one round, over `encode` before and after it."""
    throughput = len(outcome.seconds) / outcome.duration
    limit, limit_cpu = (float(np.mean(values)) for values in zip(*limits))
    cpu = server_cpu / len(outcome.seconds)
    return {
        "throughput": round(throughput, 1),
        "limit": round(limit, 1),
        "share": round(throughput / limit, 4),
        "server_cpu_ms": round(1000 * cpu, 3),
        "limit_cpu_ms": round(1000 * limit_cpu, 3),
        "cpu_share": round(limit_cpu / cpu, 4),
    }


def _spread(rounds: Sequence[Dict[str, float]], name: str) -> str:
    """The least and the largest share of the rounds, in percent."""
    values = [100 * one[name] for one in rounds]
    return f"{min(values):.1f} to {max(values):.1f}"


def run_limit(options: argparse.Namespace, own: Set[int]) -> Tuple[float, float]:
    """Texts per second of `encode` alone, in a process of its own on the server's CPUs, and CPU s of each."""
    command = [sys.executable, "-m", "tools.bench.serve_load", str(options.bundle)]
    command += ["--threads", str(options.threads), "--limit-seconds", str(options.limit_seconds)]
    command += ["--limit-only", ",".join(map(str, sorted(own)))]
    command += ["--texts", str(options.texts)] if options.texts else []
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    throughput, cpu = map(float, done.stdout.split())
    return throughput, cpu


def _measure_limit(options: argparse.Namespace, texts: List[str]) -> int:
    os.sched_setaffinity(0, set(map(int, str(options.limit_only).split(","))))
    with obert_edge.load(options.bundle, threads=options.threads) as session:
        session.encode(texts[:64])
        done = 0
        began, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - began < options.limit_seconds:
            session.encode(texts)
            done += len(texts)
        print(done / (time.perf_counter() - began), (time.process_time() - cpu) / done)
    return 0


@contextlib.contextmanager
def serving(options: argparse.Namespace, own: Set[int]) -> Iterator[Tuple[str, int, subprocess.Popen[str]]]:
    """A server on some CPUs; it has to end with 0."""
    command = [sys.executable, "-P", "-c", _ENTRY, "serve", f"{NAME}={options.bundle.resolve()}"]
    command += ["--port", "0", "--threads", str(options.threads), *options.server_option]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: os.sched_setaffinity(0, own),
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", file=sys.stderr)
            place = re.search(r"listening on http://([\d.]+):(\d+)", line)
            if place:
                yield place[1], int(place[2]), process
                break
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            raise VerificationError(f"the server ended with {process.returncode}", hint="read its log above")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


async def load(
    host: str, port: int, requests: Sequence[bytes], expected: Sequence[bytes], clients: int, seconds: float
) -> Outcome:
    """Ask with many clients for some seconds."""
    outcome = Outcome()
    began = time.perf_counter()
    end = began + seconds

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        chosen = random.Random(number)
        while time.perf_counter() < end:
            place = chosen.randrange(len(requests))
            asked = time.perf_counter()
            try:
                writer.write(requests[place])
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
            except (OSError, asyncio.IncompleteReadError):
                outcome.errors += 1
                return
            if not head.startswith(b"HTTP/1.1 200 "):
                outcome.errors += 1
                continue
            outcome.seconds.append(time.perf_counter() - asked)
            outcome.wrong += expected[place] not in body
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    outcome.duration = time.perf_counter() - began
    return outcome


def _request(host: str, body: bytes) -> bytes:
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def cpu_seconds(process: int) -> float:
    """Seconds of CPU that the threads of a process have taken; ticks would be too long for a turn."""
    threads = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def scrape(host: str, port: int) -> Dict[str, float]:
    """The server's numbers that have no labels, by name."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics") as answer:
        text = answer.read().decode()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels
    }


def render(figures: Dict[str, Any]) -> str:
    """The page of results."""
    facts = figures["machine"]
    layout = (
        "the server alone on as many CPUs as it has threads, and the clients on the others"
        if figures["separate_cpus"]
        else "server and clients on the same CPUs"
    )
    rows = [
        ("requests, each of one text", f"{figures['requests']}"),
        ("errors", f"{figures['errors']}"),
        ("answers with other bits than `encode`", f"{figures['wrong']}"),
        ("throughput of the server", f"{figures['throughput']:.1f} texts/s"),
        (
            "`encode` alone",
            f"{figures['limit']:.1f} texts/s",
        ),
        ("share of the limit", f"**{100 * figures['share']:.1f} %** ({_spread(figures['rounds'], 'share')})"),
        (
            "CPU of a text: server, `encode`",
            f"{figures['server_cpu_ms']:.2f} and {figures['limit_cpu_ms']:.2f} ms",
        ),
        (
            "share of the limit by CPU time",
            f"{100 * figures['cpu_share']:.1f} % ({_spread(figures['rounds'], 'cpu_share')})",
        ),
        ("p50", f"{figures['p50_ms']:.1f} ms"),
        ("p99", f"{figures['p99_ms']:.1f} ms"),
        ("longest", f"{figures['max_ms']:.1f} ms"),
        (
            "texts and tokens of a batch, mean",
            f"{figures['texts_per_batch']} and {figures['tokens_per_batch']}",
        ),
        ("CPUs that the server kept busy", f"{figures['server_cpu']:.2f}"),
        ("CPUs that the clients kept busy", f"{figures['client_cpu']:.2f}"),
    ]
    repeat = "**Measure this again:** " if figures["measure_again"] else ""
    lines = [
        "# Serving under load",
        "",
        f"    {figures['command']}",
        "",
        f"{figures['clients']} clients on the loopback for {figures['seconds']:g} s, {layout}; "
        f"{facts['cpu']}, {facts.get('CPU(s)', '?')} CPUs, kernels {figures['kernels']}, "
        f"{figures['threads']} thread{'s' * (figures['threads'] != 1)}.",
        f"The {figures['texts']} texts have {figures['mean_tokens']} tokens in the mean, "
        f"{figures['most_tokens']} at most.",
        "",
        *table(("", ""), rows),
        "",
        *([f"{repeat}During the load {figures['interference']}."] if figures["interference"] else []),
        "The limit is `Session.encode` of the same texts on the same CPUs, 32 at once, sorted by length, "
        f"before and after each of {len(figures['rounds'])} rounds of load.",
        "Shares are medians of the rounds, with the least and the largest.",
        "How the server works is in the [guide](../guides/serving.md), and the figures are in "
        "[serving.json](serving.json).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(command_line.run(main))
