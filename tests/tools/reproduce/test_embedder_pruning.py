"""The study of pruned embedders: its texts, its recipes and its page."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from obert_edge.errors import DataError
from obert_edge.host.data import load_task
from obert_edge.host.stages.recipe import Recipe
from tests.device.bundles import make_bundle
from tools.reproduce import embedder_pruning as study


def write(folder, name, lines):
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / name, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    header = "index\tsentence1\tsentence2\tscore"
    write(folder / "stsb", "train.tsv.gz", [header, "0\tone two three\tfour five six\t3.0"])
    write(
        folder / "stsb",
        "dev.tsv.gz",
        [header, '0\ta film of "note"\ta known film\t4.0', "1\tx y z\tu v w\t1.0"],
    )
    write(folder / "cola", "train.tsv.gz", ["gj04\t1\t\tno header stands here", "gj04\t1\t\ttoo short"])
    words = "a fragment of a sentence that is long enough"
    write(folder / "sst2", "train.tsv.gz", ["sentence\tlabel", f"{words}\t1", "a short one here\t0"])
    write(
        folder / "wikitext2",
        "valid.txt.gz",
        [" = A title = ", " The first one . The second one . ", "one two three"],
    )
    return folder


def test_texts_are_of_train_splits_every_one_once_and_pairs_of_dev(sources, tmp_path):
    data = study.make_data(sources, tmp_path / "data", None, tune=False)
    assert sorted((data / "train.txt").read_text().splitlines()) == [
        "The first one .",
        "The second one .",
        "a fragment of a sentence that is long enough",
        "four five six",
        "no header stands here",
        "one two three",
    ]
    task = load_task("embedding", data)
    assert [row.label for row in task.examples("dev")] == [4.0, 1.0]
    assert task.examples("dev")[0].texts == ('a film of "note"', "a known film")
    assert study.make_data(sources, data, None, tune=False) == data


def test_settings_are_chosen_on_pairs_that_are_not_reported(sources, tmp_path):
    data = study.make_data(sources, tmp_path / "tune", 2, tune=True)
    assert [row.label for row in load_task("embedding", data).examples("dev")] == [3.0]
    assert len((data / "train.txt").read_text().splitlines()) == 2


def test_without_pairs_there_is_no_study(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*stsb/dev.tsv.gz"):
        study.make_data(tmp_path, tmp_path / "data", None, tune=False)


@pytest.mark.parametrize("name", sorted(set(study.RECIPES.values())))
def test_recipes_prune_by_gradients_of_outputs_and_train_for_eight_bits(name, tmp_path):
    told = {"model": str(tmp_path), "data": str(tmp_path), "output": str(tmp_path / "out")}
    recipe = Recipe.load(study.FOLDER / name, **told)
    assert recipe.task.name == "embedding"
    assert [stage.name for stage, _ in recipe.stages()] == ["prune", "quantize", "build"]
    assert recipe.prune.gradients_of in (None, "outputs")


SCORES = {"recall_at_1": 50.0, "mrr": 60.0, "mean_cosine": 99.0, "least_cosine": 90.0}


def row(**values):
    return {"model": "m", "method": "dense", "sparsity": 0.0, "bytes": 2e6, "seconds": 0, **SCORES, **values}


def page(*rows):
    return study.page({"texts": 1000, "pairs": 3, "machine": {"cores": 2}, "rows": list(rows)})


def test_the_page_says_what_is_left_of_the_dense_score():
    pruned = row(method="obert", sparsity=0.5, bytes=1e6, seconds=9, spearman=76.0)
    found = page(row(spearman=80.0), pruned)
    assert "on 1,000 texts without a label" in found
    assert "| m | dense |  | 2.0 | 80.00 |  | 50.0 | 60.0 | 0.9900 | 0.9000 |  |" in found
    assert "| m | obert | 50 % | 1.0 | 76.00 | 95.00 % | 50.0 | 60.0 | 0.9900 | 0.9000 | 9 |" in found
    assert "## Speed" not in found


def test_speeds_are_measured_of_bundles_that_are_there_and_stay_beside_their_scores(tmp_path):
    place = tmp_path / "m" / "dense"
    place.mkdir(parents=True)
    (tmp_path / "checkpoint").mkdir()
    make_bundle(tmp_path / "checkpoint", "BertModel").rename(place / "model.oeb")
    (place / "cell.json").write_text(json.dumps(row(spearman=80.0)))
    study.measure_speeds(place, lengths=(8,), rounds=2)
    measured = json.loads((place / "cell.json").read_text())
    assert measured["spearman"] == 80.0
    assert [speed["tokens"] for speed in measured["speeds"]] == [8]
    assert set(measured["speeds"][0]["ratios"]) == set(study.BASELINES)
    found = page(measured)
    assert "## Speed" in found
    assert re.search(r"\| m \| dense \|  \| 8 \| \w+ \| [\d.]+ \| [\d.]+x \(", found)
