"""What is a name on a hub, and what is a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from obert_edge.errors import UsageError
from obert_edge.host.hub.names import HubName, hub_name, repository_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/model", HubName("org/model")),
        ("org/model@v1.0", HubName("org/model", "v1.0")),
        ("org/model@refs/pr/3", HubName("org/model", "refs/pr/3")),
        ("hub:org/model", HubName("org/model")),
        ("sentence-transformers/all-MiniLM-L6-v2", HubName("sentence-transformers/all-MiniLM-L6-v2")),
        ("model", None),
        ("./org/model", None),
        ("../model", None),
        ("/org/model", None),
        ("~/model", None),
        ("a/b/c", None),
        ("org/model/", None),
        ("org/model@", None),
        ("org/mo del", None),
        ("", None),
    ],
)
def test_names(text: str, expected: HubName | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_name(text) == expected


def test_a_path_that_exists_counts_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert hub_name("org/model") is None
    assert hub_name(Path("org/model")) is None
    assert hub_name("hub:org/model") == HubName("org/model")


def test_what_cannot_be_a_name_is_refused_where_one_is_asked_for() -> None:
    for ask in (hub_name, repository_name):
        with pytest.raises(UsageError, match="org/"):
            ask("hub:model")
    with pytest.raises(UsageError, match="no repository"):
        repository_name("./model.oeb")


def test_a_pinned_name_is_a_commit() -> None:
    assert HubName("org/model", "0" * 40).is_pinned
    assert not HubName("org/model", "main").is_pinned
