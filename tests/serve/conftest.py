"""Small bundles of every kind that is served, and servers in processes of their own, on the loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from signal import SIGKILL, SIGTERM

import httpx
import openai
import pytest

from obert_edge.host.compiler import build
from tests.device.bundles import TEXTS, make_bundle

_ENTRY = "from obert_edge.cli import main; main()"


class Server:
    """`obert-edge serve` in a process of its own."""

    def __init__(
        self,
        *arguments: object,
        environment: dict[str, str] | None = None,
        wrapper: tuple[str, ...] = (),
        **options,
    ) -> None:
        where = [] if "--uds" in arguments else ["--port", "0"]
        command = [
            *wrapper,
            sys.executable,
            "-c",
            _ENTRY,
            "serve",
            *map(str, arguments),
            *where,
            "--threads",
            "1",
        ]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}, **options
        )
        self.lines: list[str] = []
        self.place = ""
        self._seen = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.place = self.wait_for(r"listening on (\S+)")[1]

    def _read(self) -> None:
        for line in self.process.stderr:
            with self._seen:
                self.lines.append(line)
                self._seen.notify_all()
        with self._seen:
            self.lines.append("")
            self._seen.notify_all()

    def wait_for(self, pattern: str, after: int = 0) -> re.Match[str]:
        """Wait for a line of the log."""

        def found() -> re.Match[str] | None:
            return next((match for line in self.lines[after:] if (match := re.search(pattern, line))), None)

        with self._seen:
            self._seen.wait_for(lambda: found() or "" in self.lines, timeout=60)
            match = found()
        assert match, "".join(self.lines)
        return match

    def http(self, **options) -> httpx.Client:
        if self.place.startswith("unix:"):
            options.update(transport=httpx.HTTPTransport(uds=self.place[5:]))
            return httpx.Client(base_url="http://server", timeout=60, **options)
        return httpx.Client(base_url=self.place, timeout=60, **options)

    def openai(self, key: str = "none", **options) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.place}/v1", api_key=key, timeout=60, **options)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, number: int = SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.signal(number)
        code = self.process.wait(60)
        self._reader.join(10)
        return code


@pytest.fixture(scope="session")
def embedder(tmp_path_factory) -> Path:
    """An embedder that pools on the device, leaves prompts out, and gives vectors of length 1."""
    folder = tmp_path_factory.mktemp("embedder")
    make_bundle(folder, "BertModel")
    types = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    listed = [{"path": path, "type": f"sentence_transformers.models.{word}"} for path, word in types.items()]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    pooling = {"pooling_mode": ["mean"], "include_prompt": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    prompts = {"prompts": {"query": "hello world : ", "passage": "new york "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return build(folder, "x86", folder / "embedder.oeb", calibration=TEXTS)


@pytest.fixture(scope="session")
def plain_embedder(tmp_path_factory) -> Path:
    """An embedder that pools in the engine, with other vectors than the other one's."""
    return make_bundle(tmp_path_factory.mktemp("plain"), "BertModel", hidden_act="relu")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> Path:
    names = {0: "bad", 1: "so-so", 2: "good"}
    folder = tmp_path_factory.mktemp("classifier")
    return make_bundle(folder, "BertForSequenceClassification", num_labels=3, id2label=names)


@pytest.fixture(scope="session")
def reranker(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reranker")
    return make_bundle(folder, "BertForSequenceClassification", num_labels=1)


@pytest.fixture(scope="session")
def answerer(tmp_path_factory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("answerer"), "BertForQuestionAnswering")


@pytest.fixture
def serving():
    """A function that starts a server, which is ended with the test."""
    started: list[Server] = []

    def start(*arguments: object, **options) -> Server:
        started.append(Server(*arguments, **options))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop(SIGKILL)


@pytest.fixture(scope="session")
def server(embedder, classifier, reranker, answerer):
    """A server of four models, for tests that leave it as it is."""
    limits = ["--max-inputs", 64, "--max-request-tokens", 2000, "--max-body-bytes", 100000]
    bundles = [
        f"{name}={path}"
        for name, path in zip(("embed", "sort", "rank", "ask"), (embedder, classifier, reranker, answerer))
    ]
    running = Server(*bundles, *limits, "--body-timeout", 1)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def http(server):
    with server.http() as client:
        yield client
