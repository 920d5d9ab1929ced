#!/usr/bin/env python3
"""Find the paragraph that answers a question, by the nearness of their embeddings.

python3 examples/search.py                               # a small model, trained here in seconds
python3 examples/search.py model.oeb notes.txt "a question"    # one paragraph per line
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from texts import HANDBOOK

import obert_edge

#: The small model has not seen these questions; it knows the handbook's paragraphs.
QUESTIONS = [
    "Can I keep a novel for longer than four weeks?",
    "How do I reset a password?",
    "What happens when I return a book late?",
    "May we use the piano in the evening?",
    "Is there a bus to the library?",
]


def main() -> None:
    """Search the file on the command line, or a handbook with a model made here."""
    if len(sys.argv) > 3:
        search(Path(sys.argv[1]), Path(sys.argv[2]).read_text("utf-8").splitlines(), sys.argv[3:])
        return
    if len(sys.argv) == 2:
        search(Path(sys.argv[1]), list(HANDBOOK), QUESTIONS)
        return
    from small_models import embedder

    with tempfile.TemporaryDirectory() as folder:
        search(embedder(Path(folder) / "search.oeb"), list(HANDBOOK), QUESTIONS)


def search(bundle: Path, paragraphs: list[str], questions: list[str]) -> None:
    """Print the nearest paragraph to every question, and the cosine of the angle between the two."""
    with obert_edge.load(bundle) as session:
        if session.manifest.task.type != "encoder":
            sys.exit(f"{bundle} is for {session.manifest.task.type}; this needs encoder")
        index = np.stack([answer.vector for answer in session.predict(paragraphs, normalize=True)])
        for question in questions:
            cosines = index @ session.predict(question, normalize=True).vector
            best = int(cosines.argmax())
            print(f"{question}\n  {cosines[best]:.2f}  {paragraphs[best]}")


if __name__ == "__main__":
    main()
