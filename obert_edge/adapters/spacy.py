"""The bundle of a tagger as a component of a spaCy pipeline: ``nlp.add_pipe("obert_edge", config=...)``.

Importing this module makes the name known to spaCy, which a saved pipeline needs before it is loaded, too.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Iterable, Optional

import numpy as np

from obert_edge.adapters.opening import BundleLike, Opened, require_tagger
from obert_edge.packages import imports_for

with imports_for("this adapter"):
    from spacy.language import Language
    from spacy.tokens import Doc, SpanGroup
    from spacy.util import filter_spans

#: What the bundle is called in a saved pipeline.
_FILE = "model.oeb"
NAME = "obert_edge"


class EntityComponent:
    """Writes the bundle's entities to ``doc.ents``, and with their scores to ``doc.spans``.

    An entity that begins or ends within a token of spaCy's is widened to whole tokens. Entities that are in
    ``doc.ents`` already stay where the new ones do not overlap with them, or are shorter.

    Args:
        bundle: the file of a tagger, or a session that has it open.
        spans_key: the key of ``doc.spans`` for the entities, whose ``attrs["scores"]`` are 0..1.
        aggregation: how words become entities; as for :meth:`Session.predict`.
        threads: as for :func:`obert_edge.load`.
    """

    def __init__(
        self,
        bundle: BundleLike,
        spans_key: str = NAME,
        aggregation: str = "first",
        threads: Optional[int] = None,
    ) -> None:
        self._threads = threads
        self._spans_key = spans_key
        self._aggregation = aggregation
        # A saved pipeline brings its own bundle, which is read after this: nothing is opened here.
        self._opened = Opened(bundle, threads)

    def __call__(self, doc: Doc) -> Doc:
        """Find the entities of a document.

        Raises:
            UsageError: the bundle is of another task.
            ObertEdgeError: as :func:`obert_edge.load`.
        """
        session = self._opened.session
        require_tagger(session)
        found = {}
        for entity in session.predict(doc.text, aggregation=self._aggregation):
            span = doc.char_span(entity.start, entity.end, label=entity.label, alignment_mode="expand")
            if span is not None and (span.start, span.end, span.label) not in found:
                found[span.start, span.end, span.label] = (span, entity.score)
        spans = [span for span, _ in found.values()]
        doc.ents = filter_spans([*spans, *doc.ents])
        group = SpanGroup(doc, name=self._spans_key, spans=spans)
        group.attrs["scores"] = np.array([score for _, score in found.values()], np.float32)
        doc.spans[self._spans_key] = group
        return doc

    def to_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> None:
        """Copy the bundle into the folder of the pipeline."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / _FILE).resolve() != self._opened.path.resolve():
            shutil.copyfile(self._opened.path, folder / _FILE)

    def from_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> EntityComponent:
        """Use the bundle in the folder of the pipeline."""
        self._opened = Opened(Path(path) / _FILE, self._threads)
        return self


@Language.factory(
    NAME,
    assigns=["doc.ents", "token.ent_iob", "token.ent_type", "doc.spans"],
    default_config={"spans_key": NAME, "aggregation": "first", "threads": None},
)
def create_component(
    nlp: Language, name: str, bundle: str, spans_key: str, aggregation: str, threads: Optional[int]
) -> EntityComponent:
    """The component of a pipeline's configuration."""
    return EntityComponent(bundle, spans_key, aggregation, threads)
