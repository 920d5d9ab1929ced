"""What ``inspect`` prints of a bundle that somebody else built."""

from __future__ import annotations

import dataclasses

from obert_edge.bundle.container import Bundle, write_bundle
from obert_edge.device.commands.describe import describe


def test_a_label_cannot_talk_to_the_terminal(classifier, tmp_path):
    labels = ["\x1b]0;owned\x07", "\x9b31mred", "good\rbad"]
    with Bundle.open(classifier) as bundle:
        members = {name: bundle.member(name) for name in bundle.names if name != "manifest.json"}
        task = dataclasses.replace(bundle.manifest.task, labels=labels)
        write_bundle(tmp_path / "odd.oeb", dataclasses.replace(bundle.manifest, task=task), members)
    text, facts = describe(tmp_path / "odd.oeb")
    assert facts["task"]["labels"] == labels
    assert all(character == "\n" or character.isprintable() for character in text)
    assert "\\x1b]0;owned" in text
