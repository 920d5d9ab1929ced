#!/usr/bin/env python3
"""Ask a document: the answer is a span of its text.

python3 examples/ask.py                                  # a small model, trained here in half a minute
python3 examples/ask.py model.oeb document.txt "a question"
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import obert_edge

#: The small model has learned to read such notices, but has not seen this one.
NOTICE = (
    "The hall is on the top floor. Greta Novak leads the choir. The library opens at ten. "
    "Books may be kept for three weeks. The market is held on Sunday. A card costs twelve euros."
)
QUESTIONS = [
    "Who leads the choir?",
    "What is the price of a card?",
    "On which floor is the hall?",
    "How long may I keep a book?",
    "Which day is market day?",
]


def main() -> None:
    """Ask the document on the command line, or a notice with a model made here."""
    if len(sys.argv) > 3:
        ask(Path(sys.argv[1]), Path(sys.argv[2]).read_text("utf-8"), sys.argv[3:])
        return
    if len(sys.argv) == 2:
        ask(Path(sys.argv[1]), NOTICE, QUESTIONS)
        return
    from small_models import answerer

    with tempfile.TemporaryDirectory() as folder:
        ask(answerer(Path(folder) / "ask.oeb"), NOTICE, QUESTIONS)


def ask(bundle: Path, document: str, questions: list[str]) -> None:
    """Print the best span for every question, where it stands in the document, and its probability."""
    with obert_edge.load(bundle) as session:
        if session.manifest.task.type != "question-answering":
            sys.exit(f"{bundle} is for {session.manifest.task.type}; this needs question-answering")
        for question in questions:
            answer = session.predict((question, document))
            print(f"{question:32} {answer.text}  [{answer.start}:{answer.end}, {answer.score:.0%}]")


if __name__ == "__main__":
    main()
