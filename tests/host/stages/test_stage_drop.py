"""Dropping layers leaves the others as they were, whatever the architecture calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from obert_edge.errors import UsageError
from obert_edge.host.architectures import ARCHITECTURES
from obert_edge.host.stages.reports import StageReport
from obert_edge.host.stages.stage_drop import DropFigures, keep_layers
from tests.host.compiler.tiny_checkpoints import make_model


def test_the_first_layer_of_modernbert_has_to_stay() -> None:
    """It alone has no LayerNorm before its attention; another in its place would get none when loaded."""
    with pytest.raises(UsageError, match="lack layer 0"):
        keep_layers(make_model("modernbert", "encoder"), [1, 2])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_layers_that_stay_are_those_named(architecture: str) -> None:
    model = make_model(architecture, "sequence-classification")
    known = ARCHITECTURES[architecture]

    def layer(index: int) -> torch.nn.Module:
        path = known.layer_paths(model.config.to_dict())[index]
        return model.get_submodule(f"{known.prefix}.{path}")

    wanted = [layer(0), layer(2)]
    keep_layers(model, [0, 2])
    assert [layer(0), layer(1)] == wanted
    assert getattr(model.config, known.fields.layers) == 2
    options = {"layer_types": model.config.layer_types} if known.rotary and known.rotary.local_base else {}
    smaller = make_model(architecture, "sequence-classification", layers=2, **options)
    smaller.load_state_dict(model.state_dict())
    ids = torch.arange(5, 20)[None]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, smaller(ids).logits)


def test_layers_that_share_weights_are_dropped_from_each_set_alike() -> None:
    def smaller(keep: list[int]) -> torch.nn.Module:
        model = make_model("albert", "encoder", layers=6, num_hidden_groups=2, inner_group_num=2)
        keep_layers(model, keep)
        return model

    assert smaller([1, 2, 4, 5]).config.num_hidden_layers == 4
    with pytest.raises(UsageError, match=r"layers \[0, 1, 2, 3\] would take other weights"):
        smaller([0, 1, 2, 3])


def test_something_has_to_be_dropped() -> None:
    with pytest.raises(UsageError, match=r"layers \[0, 1, 2\] are all that the model has"):
        keep_layers(make_model("bert", "encoder", layers=3), [0, 1, 2])


def test_what_was_only_dropped_is_said_without_figures_of_training() -> None:
    report = StageReport("drop", None, {}, DropFigures([0]), Path("o"), 0.5)
    assert str(report) == "drop: wrote o (sparsity 0.5)"
