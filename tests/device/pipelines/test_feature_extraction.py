"""An embedder with modules, prompts and a pooling in numpy, on a device with nothing but numpy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import obert_edge
from obert_edge.errors import UsageError
from obert_edge.host.compiler import build
from tests.device.bundles import TEXTS, make_bundle

TYPES = "sentence_transformers.models."


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that pools two ways on the device, and has a dense module and a default prompt."""
    folder = tmp_path_factory.mktemp("embedder")
    make_bundle(folder, "BertModel")
    listed = [
        {"path": path, "type": TYPES + word}
        for path, word in (
            ("", "Transformer"),
            ("1_Pooling", "Pooling"),
            ("2_Dense", "Dense"),
            ("3", "Normalize"),
        )
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    for name, config in (
        ("1_Pooling", {"pooling_mode": ["max", "mean"], "include_prompt": False}),
        ("2_Dense", {"in_features": 64, "out_features": 5, "bias": False}),
    ):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    weights = np.random.default_rng(0).normal(0, 0.2, (5, 64)).astype(np.float32)
    save_file({"linear.weight": weights}, str(folder / "2_Dense" / "model.safetensors"))
    whole = {"prompts": {"query": "hello world : "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(whole))
    return build(folder, "x86", folder / "embedder.oeb", calibration=TEXTS)


def test_a_device_with_numpy_alone_gives_the_same_embedding(embedder: Path, bare_device) -> None:
    shutil.copy(embedder, bare_device.folder / "model.oeb")
    code, printed, errors = bare_device("run", "the film is good", "--json")
    assert code == 0, errors
    with obert_edge.load(embedder, threads=1) as session:
        assert session.encode("the film is good").shape == (5,)
        assert np.allclose(printed["predictions"][0]["vector"], session.encode("the film is good"), atol=1e-6)


def test_predict_and_encode_make_the_same_vector_and_run_gives_what_the_program_gives(embedder: Path) -> None:
    with obert_edge.load(embedder, threads=1) as session:
        vector = session.predict("the film is good").vector
        assert np.array_equal(vector, session.encode("the film is good"))
        assert np.linalg.norm(vector) == pytest.approx(1)
        assert np.linalg.norm(session.predict("the film is good", normalize=False).vector) != pytest.approx(1)
        assert list(session.run(input_ids=[2, 5, 3])) == ["last_hidden_state"]


def test_the_default_prompt_is_put_before_a_text_unless_another_is_given(embedder: Path) -> None:
    with obert_edge.load(embedder, threads=1) as session:
        usual = session.encode("the film")
        assert np.array_equal(session.encode("the film", prompt="hello world : "), usual)
        assert not np.allclose(session.encode("the film", prompt=""), usual)


@pytest.mark.parametrize("size", [None, 0, 1.5, "8", True])
def test_a_batch_that_is_no_number_of_texts_is_refused(embedder: Path, size: Any) -> None:
    with obert_edge.load(embedder, threads=1) as session:
        for embed in (session.encode, lambda texts, **options: session.rank("hello", texts, **options)):
            with pytest.raises(UsageError, match="batch_size is"):
                embed(["hello"], batch_size=size)
