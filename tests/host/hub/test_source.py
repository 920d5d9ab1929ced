"""What a model's folder and its card say of where it came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from obert_edge.bundle.manifest import SourceFacts
from obert_edge.host.hub.source import facts_of_card, keep_source, read_source


def test_a_folder_that_says_nothing(tmp_path: Path) -> None:
    assert read_source(tmp_path) == SourceFacts()
    assert not SourceFacts().is_known


def test_the_head_of_the_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\r\nlicense: mit\r\nbase_model: [a/b, c/d]\r\n---\r\n# Model\r\n")
    assert read_source(tmp_path) == SourceFacts(license="mit", base_models=["a/b", "c/d"])


@pytest.mark.parametrize(
    "card",
    ["", "# Model\nlicense: mit\n", "---\nlicense: [mit\n---\n", "---\n- mit\n---\n", "---\nlicense: mit\n"],
)
def test_a_head_that_is_none_says_nothing(tmp_path: Path, card: str) -> None:
    (tmp_path / "README.md").write_text(card)
    assert read_source(tmp_path) == SourceFacts()


def test_values_of_other_kinds_count_as_not_said() -> None:
    head = {"license": 3, "language": ["en", None, False], "base_model": {"a": 1}, "pipeline_tag": ""}
    assert facts_of_card(head) == SourceFacts(languages=["en", "no"])
    assert facts_of_card({"license": "other", "license_name": "our-own"}).license == "our-own"


def test_a_snapshot_of_the_cache_names_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / "models--org--small" / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    assert read_source(folder) == SourceFacts("org/small", "a" * 40)
    inner = folder / "0_Transformer"
    inner.mkdir()
    assert read_source(inner).repository == "org/small"


def test_what_is_kept_counts_before_the_card(tmp_path: Path) -> None:
    folder = tmp_path / "models--org--small" / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    (tmp_path / "stage").mkdir()
    keep_source(folder, tmp_path / "stage")
    (tmp_path / "stage" / "README.md").write_text("---\nlicense: mit\n---\n")
    assert read_source(tmp_path / "stage") == read_source(folder)
    (tmp_path / "stage" / "source.json").write_text("[]")
    assert read_source(tmp_path / "stage").license == "mit"
