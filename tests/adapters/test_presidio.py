"""The bundle of a tagger as a Presidio recognizer, in Presidio's own engine."""

from __future__ import annotations

from pathlib import Path

import pytest

spacy = pytest.importorskip("spacy", reason="pip install 'obert-edge[spacy]'")
pytest.importorskip("presidio_analyzer", reason="pip install 'obert-edge[presidio]'")
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry  # noqa: E402
from presidio_analyzer.nlp_engine import SpacyNlpEngine  # noqa: E402

from obert_edge.adapters.presidio import BundleRecognizer  # noqa: E402
from obert_edge.device.runtime.session import Session  # noqa: E402
from obert_edge.errors import UsageError  # noqa: E402


class BlankEngine(SpacyNlpEngine):
    """Presidio's engine with words alone: no model of spaCy's has to be downloaded."""

    def __init__(self) -> None:
        super().__init__()
        self.nlp = {"en": spacy.blank("en")}


TEXT = "anna lives in new york and bob in paris. the film is good fun"


def test_entities_have_presidios_names_and_the_bundles_places(tagger: Path, tags: Session) -> None:
    recognizer = BundleRecognizer(tagger, threads=1)
    assert recognizer.supported_entities == ["CITY", "PERSON"]
    expected = [
        ({"PER": "PERSON", "CITY": "CITY"}[entity.label], entity.start, entity.end, entity.score)
        for entity in tags.predict(TEXT)
    ]
    found = recognizer.analyze(TEXT, [])
    assert [(one.entity_type, one.start, one.end, one.score) for one in found] == expected
    assert expected
    people = recognizer.analyze(TEXT, ["PERSON"])
    assert [one.start for one in people] == [start for kind, start, *_ in expected if kind == "PERSON"]


def test_kinds_can_be_renamed_and_left_out(tags: Session) -> None:
    recognizer = BundleRecognizer(tags, entities={"CITY": "LOCATION"})
    assert recognizer.supported_entities == ["LOCATION"]
    assert {one.entity_type for one in recognizer.analyze(TEXT, [])} <= {"LOCATION"}


def test_the_engine_of_presidio_uses_it(tags: Session) -> None:
    registry = RecognizerRegistry(recognizers=[BundleRecognizer(tags)], supported_languages=["en"])
    engine = AnalyzerEngine(registry=registry, nlp_engine=BlankEngine(), supported_languages=["en"])
    found = {(one.start, one.end) for one in engine.analyze(TEXT, language="en")}
    assert found == {(entity.start, entity.end) for entity in tags.predict(TEXT)}


def test_another_task_is_refused(embedder: Path) -> None:
    with pytest.raises(UsageError, match="token-classification"):
        BundleRecognizer(embedder)
