"""The snippets of the guide run as they are, beside an embedder and a tagger."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from tests.docs.markdown import DOCS, blocks

GUIDE = DOCS / "guides" / "adapters.md"
#: The libraries by a word of their snippets.
LIBRARIES = [
    "sentence_transformers",
    "langchain_core",
    "llama_index",
    "sklearn",
    "presidio_analyzer",
    "spacy",
]


def snippet(library: str) -> str:
    """The snippet that imports a library before any other of them."""
    found = [
        text
        for _, text in blocks(GUIDE, "python")
        if re.search(rf"^(from|import) {library}\b", text, re.MULTILINE)
    ]
    return found[-1]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_snippet_of_the_guide(
    library: str,
    embedder: Path,
    tagger: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    shutil.copyfile(embedder, tmp_path / "model.oeb")
    shutil.copyfile(tagger, tmp_path / "tagger.oeb")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet(library), str(GUIDE), "exec"), {})
    assert capsys.readouterr().out.strip()
