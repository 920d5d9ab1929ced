"""A calibrated model is close to the float one, and what is padding does not count."""

from __future__ import annotations

import copy

import pytest
import torch

from obert_edge.calibration import calibrate
from obert_edge.errors import DataError, UsageError
from obert_edge.host.architectures import ARCHITECTURES as KNOWN
from obert_edge.host.quantization import is_quantized, quantize_model, quantizers
from tests.host.quantization.tiny_models import QUANTIZED, make_batch, make_batches, make_model


def relative_error(model, reference, batch):
    with torch.no_grad():
        y, expected = model(**batch)[0], reference(**batch)[0]
    if y.shape[:2] == batch["attention_mask"].shape:
        real = batch["attention_mask"].bool()
        y, expected = y[real], expected[real]
    return float((y - expected).norm() / expected.norm())


#: Families whose layers share weights, and those with gated units.
SHARED = {known.class_prefix for known in KNOWN.values() if known.sharing is not None}
GATED = {known.class_prefix for known in KNOWN.values() if known.modules.gate}


@pytest.mark.parametrize("architecture, head, activations", QUANTIZED)
def test_a_calibrated_model_is_close_to_the_float_one(architecture, head, activations):
    reference = make_model(architecture, head)
    model = calibrate(copy.deepcopy(reference), make_batches(4), activations=activations)
    assert not model.training
    assert {quantizer.mode for quantizer in quantizers(model).values()} == {"frozen"}
    # A gated unit multiplies two values that were rounded each; shared layers have one range for all of them.
    most = 0.15 if architecture in GATED else 0.2 if architecture in SHARED else 0.12
    assert 0 < relative_error(model, reference, make_batch(1)) < most


@pytest.mark.parametrize("observer", ["minmax", "percentile", "mse"])
def test_every_observer_serves(observer):
    reference = make_model()
    model = calibrate(copy.deepcopy(reference), make_batches(), observer)
    assert relative_error(model, reference, make_batch(0)) < 0.12


def test_what_stands_at_padded_positions_does_not_matter():
    batch = make_batch()
    other = {**batch, "input_ids": batch["input_ids"].where(batch["attention_mask"].bool(), 77)}
    params = []
    for one in (batch, other):
        model = calibrate(make_model(head="ForTokenClassification"), [one], "minmax")
        params.append(
            {name: (quantizer.scale, quantizer.zero_point) for name, quantizer in quantizers(model).items()}
        )
    assert params[0] == params[1]


def test_batches_may_be_an_iterator_and_carry_labels():
    batches = ({**batch, "labels": torch.zeros(4).long(), "idx": torch.zeros(4)} for batch in make_batches(2))
    calibrate(make_model(), batches, "minmax")


def test_the_ranges_cover_every_batch():
    # Quantized beforehand, so that all are the same model: a float one is equalized by its batches.
    small, large = make_batches(2)
    both = quantizers(calibrate(quantize_model(make_model()), [small, large], "minmax"))
    for alone in (small, large):
        for name, quantizer in quantizers(calibrate(quantize_model(make_model()), [alone], "minmax")).items():
            assert quantizer.scale <= both[name].scale


def test_training_can_go_on_from_the_calibrated_ranges():
    model = calibrate(make_model(), make_batches())
    quantizer = quantizers(model)["classifier:input"]
    before = quantizer.scale
    quantizer.mode = "collecting"
    model.train()
    model(**make_batch())
    assert 0.8 * before < quantizer.scale < 1.25 * before


def test_calibration_without_a_batch_is_refused():
    with pytest.raises(DataError, match="no batch"):
        calibrate(make_model(), [])


def test_arguments_are_checked_before_the_model_is_touched():
    model = make_model()
    with pytest.raises(UsageError):
        calibrate(model, make_batches(), observer="guess")
    with pytest.raises(UsageError):
        calibrate(model, make_batches(), activations="half")
    assert not is_quantized(model)
    untouched = make_model().state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in model.state_dict().items())
