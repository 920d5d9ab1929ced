import pytest
import torch

from obert_edge.host.pruning import Masks, Pattern, prunable_weights, prune_one_shot

from .models import make_bert


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "1x4", "2:4"])
def test_the_smallest_go_and_the_others_do_not_move(pattern):
    model, reference = make_bert(), make_bert()
    report = prune_one_shot(model, sparsity=0.5, pattern=pattern, criterion="magnitude")
    assert report.sparsity == 0.5
    assert report.loss_increase is None
    for name, weight in prunable_weights(model).items():
        assert Pattern.parse(pattern).holds(weight)
        original = prunable_weights(reference)[name]
        assert torch.equal(weight, torch.where(weight != 0, original, 0.0))


def test_the_threshold_is_global():
    model = make_bert()
    every = torch.cat([weight.detach().flatten().abs() for weight in prunable_weights(model).values()])
    threshold = every.sort().values[int(0.9 * len(every) + 0.5)]
    prune_one_shot(model, sparsity=0.9, pattern="unstructured", criterion="magnitude")
    left = torch.cat([weight.detach().flatten().abs() for weight in prunable_weights(model).values()])
    assert left[left > 0].min() == threshold


def test_gradual_magnitude_never_brings_a_weight_back():
    model = make_bert()
    masks = Masks.from_weights(model)
    for sparsity in (0.3, 0.6, 0.9):
        before = {name: mask.clone() for name, mask in masks.items()}
        prune_one_shot(model, sparsity=sparsity, pattern="2x1", criterion="magnitude", masks=masks)
        assert masks.sparsity == pytest.approx(sparsity, abs=1e-3)
        assert all(not (mask & ~before[name]).any() for name, mask in masks.items())
        with torch.no_grad():
            for weight in prunable_weights(model).values():
                weight.add_(1.0)  # as training would; the masks given decide what is pruned
