"""Movement scores, and that they travel with a training run."""

import pytest
import torch

from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.pruning import (
    CubicSchedule,
    Magnitude,
    Masks,
    Movement,
    Pattern,
    SoftMovement,
    prunable_weights,
    prune_one_shot,
)
from obert_edge.host.pruning.callback import SCORE_FILE

from .models import make_batches, make_bert
from .test_callback import make_callback, make_trainer


def train_by_hand(model, criterion, batches, rate=0.1):
    """Plain gradient descent on the encoder; returns -sum g * w as it goes."""
    weights = prunable_weights(model)
    handles = criterion.watch(weights)
    model.eval()
    literal = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for batch in batches:
        model.zero_grad()
        model(**batch).loss.backward()
        with torch.no_grad():
            for name, weight in weights.items():
                literal[name] -= weight.grad * weight
                weight -= rate * weight.grad
    for handle in handles:
        handle.remove()
    return literal


def test_scores_are_the_sum_of_minus_gradient_times_weight_over_training():
    model, criterion = make_bert(), Movement()
    assert criterion.needs_batches
    literal = train_by_hand(model, criterion, make_batches(5))
    assert not criterion.needs_batches
    for name, score in literal.items():
        assert torch.allclose(criterion.state()[f"scores.{name}"], score, atol=1e-8)
    masks = Masks.from_weights(model)
    criterion.prune(model, masks, sparsity=0.5, pattern=Pattern.parse("unstructured"))
    every = torch.cat([score.flatten() for score in literal.values()])
    gone = torch.cat([~mask.flatten() for mask in masks.values()])
    assert every[gone].max() <= every[~gone].min()


def test_without_training_scores_come_from_the_batches_at_fixed_weights():
    model, batches = make_bert(), make_batches(3)
    weights = prunable_weights(model)
    literal = train_by_hand(model, Movement(), batches, rate=0.0)
    prune_one_shot(model, batches, sparsity=0.5, pattern="unstructured", criterion="movement")
    every = torch.cat([score.flatten() for score in literal.values()])
    gone = torch.cat([(weight == 0).flatten() for weight in weights.values()])
    assert every[gone].max() <= every[~gone].min()


@pytest.mark.parametrize("method", ["movement", "soft-movement"])
def test_zeros_of_a_checkpoint_stay(method):
    model = make_bert()
    prune_one_shot(model, sparsity=0.25, pattern="4x1", criterion=Magnitude())
    before = Masks.from_weights(model)
    prune_one_shot(model, make_batches(3), sparsity=0.5, pattern="4x1", criterion=method)
    after = Masks.from_weights(model)
    assert after.sparsity == 0.5
    assert all(not (after[name] & ~before[name]).any() for name in after)


def test_soft_movement_brings_back_what_it_removed_when_its_score_rises():
    model, criterion = make_bert(), SoftMovement(score_penalty=0.0)
    weights = prunable_weights(model)
    original = {name: weight.detach().clone() for name, weight in weights.items()}
    masks, shape = Masks.from_weights(model), Pattern.parse("unstructured")
    generator = torch.Generator().manual_seed(0)
    first = {f"scores.{name}": torch.randn(w.shape, generator=generator) for name, w in weights.items()}
    criterion.restore(first)
    criterion.prune(model, masks, sparsity=0.4, pattern=shape)
    removed = {name: ~mask for name, mask in masks.items()}
    criterion.restore({key: -value for key, value in first.items()})
    criterion.prune(model, masks, sparsity=0.5, pattern=shape)
    assert masks.sparsity == pytest.approx(0.5, abs=1e-3)
    for name, weight in weights.items():
        assert masks[name][removed[name]].float().mean() > 0.9  # what was lowest is now highest
        assert torch.equal(weight, torch.where(masks[name], original[name], 0.0))


def test_soft_scores_of_removed_weights_go_on_learning():
    model, criterion, batches = make_bert(), SoftMovement(), make_batches(4)
    train_by_hand(model, criterion, batches[:2])
    masks = Masks.from_weights(model)
    criterion.prune(model, masks, sparsity=0.5, pattern=Pattern.parse("unstructured"))
    before = {key: value.clone() for key, value in criterion.state().items()}
    train_by_hand(model, criterion, batches[2:], rate=0.0)
    for name, mask in masks.items():
        moved = criterion.state()[f"scores.{name}"] != before[f"scores.{name}"]
        assert moved[~mask].float().mean() > 0.9


@pytest.mark.parametrize("method", ["movement", "soft-movement"])
def test_a_resumed_run_ends_like_an_uninterrupted_one(tmp_path, method):
    def callback():
        schedule = CubicSchedule(0.25, 0.75, start=2, end=6, frequency=2, unit="steps")
        return make_callback(schedule, criterion=method)

    options = {"save_strategy": "steps", "save_steps": 5}
    whole = make_trainer(tmp_path, [callback()], **options)
    whole.train()
    assert Masks.from_weights(whole.model).sparsity == pytest.approx(0.75, abs=1e-3)
    checkpoint = tmp_path / "checkpoint-5"
    assert (checkpoint / SCORE_FILE).exists()
    resumed = make_trainer(tmp_path, [callback()], model=make_bert(seed=9), **options)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_scores_of_another_method_are_refused():
    with pytest.raises(CheckpointError):
        Movement().restore({"first.a": torch.zeros(1)})
    with pytest.raises(CheckpointError):
        Magnitude().restore({"scores.a": torch.zeros(1)})


@pytest.mark.parametrize("options", [{"score_learning_rate": 0.0}, {"score_penalty": -1.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError):
        SoftMovement(**options)
