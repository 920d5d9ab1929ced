"""The bundle of a tagger as a component of a spaCy pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

spacy = pytest.importorskip("spacy", reason="pip install 'obert-edge[spacy]'")
from spacy.tokens import Doc, Span  # noqa: E402

from obert_edge.adapters.spacy import NAME, EntityComponent  # noqa: E402
from obert_edge.device.runtime.session import Session  # noqa: E402
from obert_edge.errors import UsageError  # noqa: E402

TEXT = "anna lives in new york and bob in paris. the film is good fun"


def entities(doc: Doc) -> list[tuple[str, int, int]]:
    return [(span.label_, span.start_char, span.end_char) for span in doc.ents]


def test_entities_have_the_bundles_labels_and_places(tagger: Path, tags: Session) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe(NAME, config={"bundle": str(tagger), "threads": 1})
    doc = nlp(TEXT)
    expected = list(tags.predict(TEXT))
    assert expected
    assert entities(doc) == [(entity.label, entity.start, entity.end) for entity in expected]
    scores = doc.spans[NAME].attrs["scores"]
    assert np.allclose(scores, [entity.score for entity in expected])
    assert [d.ents for d in nlp.pipe([TEXT, ""])][1] == ()


def test_entities_that_are_there_stay_where_they_are_longer(tags: Session) -> None:
    nlp = spacy.blank("en")
    doc = nlp(TEXT)
    doc.ents = [Span(doc, 0, len(doc), label="ALL")]
    assert entities(EntityComponent(tags)(doc)) == [("ALL", 0, len(TEXT))]


def test_a_saved_pipeline_carries_its_bundle(tagger: Path, tmp_path: Path) -> None:
    copy = tmp_path / "here.oeb"
    copy.write_bytes(tagger.read_bytes())
    nlp = spacy.blank("en")
    nlp.add_pipe(NAME, config={"bundle": str(copy)})
    expected = entities(nlp(TEXT))
    nlp.to_disk(tmp_path / "pipeline")
    copy.unlink()
    again = spacy.load(tmp_path / "pipeline")
    assert entities(again(TEXT)) == expected
    again.to_disk(tmp_path / "pipeline")  # over itself
    assert entities(spacy.load(tmp_path / "pipeline")(TEXT)) == expected


def test_another_task_is_refused(embedder: Path) -> None:
    with pytest.raises(UsageError, match="token-classification"):
        EntityComponent(embedder)(spacy.blank("en")(TEXT))
