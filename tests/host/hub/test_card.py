"""The model card of a bundle: what its manifest says, whole or not at all, and nobody's text lost."""

from __future__ import annotations

import shutil
from pathlib import Path

from obert_edge.bundle import Bundle
from obert_edge.cli import run_command
from obert_edge.host.hub.card import MARK, card_path, card_text, write_card
from obert_edge.host.hub.source import read_head
from tests.host.hub.conftest import CARD, MODEL


def test_the_card_says_what_the_manifest_says(bundle: Path) -> None:
    text = card_text(bundle)
    with Bundle.open(bundle) as opened:
        manifest = opened.manifest
    for fact in (
        manifest.quality.summary,
        f"{bundle.stat().st_size / 1e6:.1f} MB",
        f"{100 * manifest.encoder_sparsity:.1f} % of the weights of the encoder layers' linears",
        f"{100 * manifest.sparsity:.1f} % with those of pooler and head",
        "`x86`",
        "BertForSequenceClassification, 2 layers",
        "Labels: `bad`, `good`",
        "the model's card names none",
        'obert_edge.load("small.oeb")',
    ):
        assert fact in text


def test_a_build_writes_it_beside_the_bundle(checkpoint: Path, tmp_path: Path) -> None:
    commit, output = "c" * 40, tmp_path / "model.oeb"
    snapshot = tmp_path / "models--org--small" / "snapshots" / commit
    shutil.copytree(checkpoint, snapshot)
    (snapshot / "README.md").write_text(CARD)
    assert run_command(["build", str(snapshot), "-o", str(output)]) == 0
    card = tmp_path / "model.oeb.md"
    assert card.read_text() == card_text(output)
    assert read_head(card) == {
        "library_name": "obert-edge",
        "license": "apache-2.0",
        "base_model": MODEL,
        "base_model_relation": "quantized",
        "language": ["en", "no"],
        "pipeline_tag": "text-classification",
        "tags": ["obert-edge", "bert", "int8"],
    }
    assert f"`{MODEL}` at commit `{commit}`" in card.read_text()


def test_somebodys_own_text_stays(bundle: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.oeb"
    shutil.copyfile(bundle, mine)
    card = write_card(mine)
    assert card == card_path(mine)
    card.write_text(card.read_text().replace("# ", "# Ours: "))  # the mark is still there
    write_card(mine)
    assert "Ours" not in card.read_text()
    card.write_text(card.read_text().replace(MARK, "").replace("# ", "# Ours: "))
    write_card(mine)
    assert "Ours" in card.read_text()
