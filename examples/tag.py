#!/usr/bin/env python3
"""Find the people, places and companies of texts.

python3 examples/tag.py                                  # a small model, trained here in seconds
python3 examples/tag.py model.oeb "a text" "another"
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import obert_edge

#: The small model knows the names, but has not seen these sentences or the words between the names.
SENTENCES = [
    "Greta Weber of Kestrel Works flew from Oslo to New Delhi.",
    "Hugo Amini joined Volt in Ghent.",
    "Blue Harbor and Sienna Bank have offices in Lisbon, says Ines Lind.",
    "The mayor of Cape Town met Anna Novak.",
]


def main() -> None:
    """Tag the texts on the command line, or four sentences with a model made here."""
    if len(sys.argv) > 1:
        tag(Path(sys.argv[1]), sys.argv[2:] or SENTENCES)
        return
    from small_models import tagger

    with tempfile.TemporaryDirectory() as folder:
        tag(tagger(Path(folder) / "tag.oeb"), SENTENCES)


def tag(bundle: Path, texts: list[str]) -> None:
    """Print every text with its entities in brackets."""
    with obert_edge.load(bundle) as session:
        if session.manifest.task.type != "token-classification":
            sys.exit(f"{bundle} is for {session.manifest.task.type}; this needs token-classification")
        for text, entities in zip(texts, session.predict(texts)):
            for entity in reversed(list(entities)):  # from the end, so that the places before it stay true
                text = f"{text[: entity.start]}[{entity.text} | {entity.label}]{text[entity.end :]}"
            print(text)


if __name__ == "__main__":
    main()
