#!/usr/bin/env python3
"""Sort texts into classes.

python3 examples/classify.py                             # a small model, trained here in seconds
python3 examples/classify.py model.oeb "a text" "another"
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import obert_edge
from obert_edge.device.pipelines.classification import Classification

#: Letters to a town library; the small model has not seen them.
LETTERS = [
    "Please renew both novels that I borrowed in May",
    "Could a group of six use a room on Monday evening?",
    "My password is wrong and I cannot log in",
    "Where can I return a borrowed film?",
    "The wireless network does not accept my phone",
]


def main() -> None:
    """Classify the texts on the command line, or five letters with a model made here."""
    if len(sys.argv) > 1:
        classify(Path(sys.argv[1]), sys.argv[2:] or LETTERS)
        return
    from small_models import classifier

    with tempfile.TemporaryDirectory() as folder:
        classify(classifier(Path(folder) / "classify.oeb"), LETTERS)


def classify(bundle: Path, texts: list[str]) -> None:
    """Print the likeliest class of every text, and its probability."""
    with obert_edge.load(bundle) as session:
        if session.manifest.task.type != "sequence-classification":
            sys.exit(f"{bundle} is for {session.manifest.task.type}; this needs sequence-classification")
        for text, answer in zip(texts, session.predict(texts)):
            if not isinstance(answer, Classification):
                sys.exit(f"{bundle} gives {type(answer).__name__}; this needs one class for each text")
            print(f"{answer.label:12} {answer.score:4.0%}  {text}")


if __name__ == "__main__":
    main()
