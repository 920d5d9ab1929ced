"""A hub on the loopback with a small model in two commits, and a cache of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from tests.device.bundles import make_bundle
from tests.host.hub.fake_hub import Files, Hub, running_hub

MODEL = "org/small"
CARD = """---
license: apache-2.0
base_model: google/bert-small
language:
- en
- no
pipeline_tag: text-classification
tags: [tests]
---
# A small model
"""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small classifier; its bundle lies beside it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    bundle = make_bundle(
        folder, "BertForSequenceClassification", num_labels=2, id2label={0: "bad", 1: "good"}
    )
    bundle.rename(folder.parent / "small.oeb")
    for card in folder.glob("*.md"):
        card.unlink()
    return folder


@pytest.fixture(scope="session")
def bundle(checkpoint: Path) -> Path:
    return checkpoint.parent / "small.oeb"


@pytest.fixture
def files(checkpoint: Path) -> Files:
    """What the model's repository holds, and among it what nobody should download."""
    found = {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.is_file()}
    return {
        **found,
        "README.md": CARD.encode(),
        "pytorch_model.bin": b"a pickle",
        "modeling_small.py": b"raise SystemExit('this was run')",
        "onnx/model.onnx": b"another format",
        "model.h5": b"another",
        "1_Pooling/pooling.py": b"code",
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: Files) -> Iterator[Hub]:
    """The hub; this process asks it, and keeps what it gives in a cache of the test's own."""
    with running_hub() as running:
        constants: Any = huggingface_hub.constants
        # As HF_ENDPOINT, HF_HOME and the like, which count when the library is imported.
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # The protocol of chunks is not spoken by a server this small.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "")
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.chdir(tmp_path)
        model = running.repository(MODEL)
        config = json.loads(files["config.json"])
        first = {**files, "config.json": json.dumps({**config, "id2label": {"0": "no", "1": "yes"}}).encode()}
        model.refs["v1"] = model.commit(first)
        model.commit(files)
        yield running


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
