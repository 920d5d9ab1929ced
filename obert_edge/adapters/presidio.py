"""The bundle of a tagger as a Presidio recognizer, for finding and hiding personal data."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence

from obert_edge.adapters.opening import BundleLike, Opened, require_tagger
from obert_edge.bundle.signature import Key
from obert_edge.device.pipelines.tagging import Tagging
from obert_edge.packages import imports_for

with imports_for("this adapter"):
    from presidio_analyzer import AnalysisExplanation, EntityRecognizer, RecognizerResult

#: Kinds of entities as taggers call them -> as Presidio does; others keep their own names.
ENTITIES = {
    "PER": "PERSON",
    "PERSON": "PERSON",
    "LOC": "LOCATION",
    "GPE": "LOCATION",
    "LOCATION": "LOCATION",
    "ORG": "ORGANIZATION",
    "ORGANIZATION": "ORGANIZATION",
    "DATE": "DATE_TIME",
    "TIME": "DATE_TIME",
}


class BundleRecognizer(EntityRecognizer):
    """Finds what the bundle's labels name.

    Args:
        bundle: the file of a tagger, or a session that has it open.
        entities: the model's kinds -> Presidio's names; kinds that are not in it are left out. ``None``:
            :data:`ENTITIES`, and other kinds in capital letters.
        supported_language: of the texts.
        name: of the recognizer.
        aggregation: how words become entities; as for :meth:`Session.predict`.
        threads: as for :func:`obert_edge.load`.
        trusted_keys: the same.

    Raises:
        UsageError: the bundle is of another task.
        ObertEdgeError: as :func:`obert_edge.load`.
    """

    def __init__(
        self,
        bundle: BundleLike,
        *,
        entities: Optional[Mapping[str, str]] = None,
        supported_language: str = "en",
        name: str = "BundleRecognizer",
        aggregation: str = "first",
        threads: Optional[int] = None,
        trusted_keys: Optional[Sequence[Key]] = None,
    ) -> None:
        self._opened = Opened(bundle, threads, trusted_keys)
        self._aggregation = aggregation
        labels = require_tagger(self._opened.session)
        tagging = Tagging.of(labels)
        kinds = {tagging.read(label).kind for label in labels if label != tagging.outside}
        chosen = {kind: ENTITIES.get(kind.upper(), kind.upper()) for kind in kinds}
        self._entities = {kind: entities[kind] for kind in kinds if kind in entities} if entities else chosen
        super().__init__(
            supported_entities=sorted(set(self._entities.values())),
            supported_language=supported_language,
            name=name,
        )

    def load(self) -> None:
        """Nothing more to load: the bundle is open."""

    def analyze(self, text: str, entities: List[str], nlp_artifacts: Any = None) -> List[RecognizerResult]:
        """The entities of a text.

        Args:
            text: the text.
            entities: Presidio's names of those to find; empty: all.
            nlp_artifacts: not used.

        Returns:
            Each with its place in characters and its score, 0..1.
        """
        wanted = set(entities or self.supported_entities)
        found = []
        for entity in self._opened.session.predict(text, aggregation=self._aggregation):
            kind = self._entities.get(entity.label)
            if kind in wanted:
                explanation = AnalysisExplanation(
                    recognizer=self.name,
                    original_score=entity.score,
                    textual_explanation=f"labeled {entity.label} by {self._opened.path.name}",
                )
                metadata = {
                    RecognizerResult.RECOGNIZER_NAME_KEY: self.name,
                    RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: self.id,
                }
                found.append(
                    RecognizerResult(
                        entity_type=kind,
                        start=entity.start,
                        end=entity.end,
                        score=entity.score,
                        analysis_explanation=explanation,
                        recognition_metadata=metadata,
                    )
                )
        return found
