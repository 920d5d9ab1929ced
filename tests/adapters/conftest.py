"""Small bundles of an embedder and of a tagger, each built once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator

import pytest

import obert_edge
from obert_edge.device.runtime.session import Session
from tests.device.bundles import make_bundle

LABELS = ["O", "B-PER", "I-PER", "B-CITY", "I-CITY"]


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of an encoder with prompts for queries and documents."""
    folder = tmp_path_factory.mktemp("embedder")
    prompts = {"query": "hello : ", "document": "the film : "}
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": prompts, "default_prompt_name": "document", "similarity_fn_name": "dot"})
    )
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {
                    "idx": int(name),
                    "name": name,
                    "path": place,
                    "type": f"sentence_transformers.models.{kind}",
                }
                for name, place, kind in modules
            ]
        )
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})
    )
    return make_bundle(folder, "BertModel")


@pytest.fixture(scope="session")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a tagger of people and cities."""
    folder = tmp_path_factory.mktemp("tagger")
    names = dict(enumerate(LABELS))
    return make_bundle(folder, "BertForTokenClassification", num_labels=len(LABELS), id2label=names)


@pytest.fixture
def session(embedder: Path) -> Iterator[Session]:
    with obert_edge.load(embedder, threads=1) as opened:
        yield opened


@pytest.fixture
def tags(tagger: Path) -> Iterator[Session]:
    with obert_edge.load(tagger, threads=1) as opened:
        yield opened
