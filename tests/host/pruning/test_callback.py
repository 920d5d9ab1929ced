"""Gradual pruning through the real Trainer on a tiny Bert."""

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from obert_edge.errors import UsageError
from obert_edge.host.pruning import (
    CubicSchedule,
    Masks,
    Pattern,
    PruningCallback,
    Surgeon,
    prunable_weights,
    prune_one_shot,
)
from obert_edge.host.pruning.callback import MASK_FILE

from .models import make_bert, make_examples

STEPS = CubicSchedule(0.25, 0.75, start=2, end=6, frequency=2, unit="steps")


def make_trainer(folder, callbacks, model=None, data=None, **options):
    arguments = {
        "output_dir": str(folder),
        "max_steps": 10,
        "per_device_train_batch_size": 4,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "weight_decay": 0.1,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        **options,
    }
    return Trainer(
        model=model or make_bert(),
        args=TrainingArguments(**arguments),
        train_dataset=data or make_examples(),
        callbacks=callbacks,
    )


def make_callback(schedule=STEPS, **options):
    return PruningCallback(
        schedule, **{"criterion": Surgeon(block_size=8), "gradients": 4, "gradient_batch_size": 4, **options}
    )


class Watch(TrainerCallback):
    """Looks at the model after each optimizer step."""

    def __init__(self):
        self.sparsities = []

    def on_step_end(self, args, state, control, **kwargs):
        self.sparsities.append(Masks.from_weights(kwargs["model"]).sparsity)


@pytest.mark.parametrize("criterion", ["obert", "magnitude"])
def test_the_schedule_is_followed_and_what_is_pruned_stays_zero(tmp_path, criterion):
    watch = Watch()
    callback = make_callback(criterion=Surgeon(block_size=8) if criterion == "obert" else criterion)
    trainer = make_trainer(tmp_path, [callback, watch])
    trainer.train()
    assert watch.sparsities == pytest.approx([0, 0, 0.25, 0.25] + [0.6875] * 2 + [0.75] * 4, abs=1e-3)
    assert [report.sparsity for report in callback.reports] == pytest.approx([0.25, 0.6875, 0.75], abs=1e-3)
    assert all(Pattern.parse("4x1").holds(weight) for weight in prunable_weights(trainer.model).values())
    logged = [entry["sparsity"] for entry in trainer.state.log_history if "sparsity" in entry]
    assert logged == [report.sparsity for report in callback.reports]


def test_the_pruning_steps_to_come_are_counted_from_a_step_on(tmp_path):
    callback = make_callback()
    assert callback.steps_to_come(0) == 0  # training has not begun
    counted = []

    class Counts(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            counted.append(callback.steps_to_come(state.global_step))

    make_trainer(tmp_path, [callback, Counts()]).train()
    assert counted == [3, 3, 2, 2, 1, 1, 0, 0, 0, 0]


def test_gradient_accumulation_counts_optimizer_steps(tmp_path):
    watch = Watch()
    trainer = make_trainer(tmp_path, [make_callback(), watch], gradient_accumulation_steps=2)
    trainer.train()
    assert watch.sparsities == pytest.approx([0, 0, 0.25, 0.25] + [0.6875] * 2 + [0.75] * 4, abs=1e-3)


def test_a_schedule_in_epochs_knows_the_steps_of_an_epoch(tmp_path):
    watch = Watch()
    callback = make_callback(CubicSchedule(0.5, 0.75, start=0.5, end=1, frequency=0.5))
    data = make_examples(16)
    trainer = make_trainer(tmp_path, [callback, watch], data=data, max_steps=-1, num_train_epochs=2)
    trainer.train()
    assert watch.sparsities == pytest.approx([0, 0, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75], abs=1e-3)


def test_pruning_does_not_disturb_the_runs_random_numbers_or_its_data(tmp_path):
    """A run whose pruning step removes nothing is the run without pruning, bit for bit."""

    class NothingToRemove(Surgeon):
        def prune(self, model, masks, **options):
            before = {name: value.clone() for name, value in model.state_dict().items()}
            report = super().prune(model, masks, **options)
            model.load_state_dict(before)
            for name in masks:
                masks.replace(name, torch.ones_like(masks[name]))
            return report

    plain = make_trainer(tmp_path / "plain", [])
    plain.train()
    callback = make_callback(criterion=NothingToRemove(block_size=8))
    callback._clear_moments = lambda model, optimizer: None
    pruned = make_trainer(tmp_path / "pruned", [callback])
    pruned.train()
    assert len(callback.reports) == 3
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, pruned.model.state_dict()[name]), name


def test_a_resumed_run_ends_with_the_same_weights_as_an_uninterrupted_one(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4, "learning_rate": 1e-3}
    whole = make_trainer(tmp_path, [make_callback()], **options)
    whole.train()
    checkpoint = tmp_path / "checkpoint-4"  # saved just before the pruning step at 4
    assert (checkpoint / MASK_FILE).exists()
    resumed_callback = make_callback()
    resumed = make_trainer(tmp_path, [resumed_callback], model=make_bert(seed=9), **options)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert len(resumed_callback.reports) == 2
    for name, mask in Masks.from_weights(whole.model).items():
        assert torch.equal(mask, Masks.from_weights(resumed.model)[name])
    for name, value in whole.model.state_dict().items():
        assert torch.allclose(value, resumed.model.state_dict()[name], atol=1e-6)


def test_masks_are_found_in_the_zeros_where_a_checkpoint_has_no_mask_file(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 7}
    make_trainer(tmp_path, [make_callback()], **options).train()
    checkpoint = tmp_path / "checkpoint-7"
    saved = Masks.load(checkpoint / MASK_FILE)
    (checkpoint / MASK_FILE).unlink()
    callback = make_callback()
    make_trainer(tmp_path, [callback], **options).train(resume_from_checkpoint=str(checkpoint))
    assert all(torch.equal(callback.masks[name], saved[name]) for name in saved)


def test_without_a_schedule_it_only_keeps_what_is_pruned(tmp_path):
    model = make_bert()
    prune_one_shot(model, sparsity=0.5, criterion="magnitude", pattern="1x4")
    masks = Masks.from_weights(model)
    before = {name: weight.detach().clone() for name, weight in prunable_weights(model).items()}
    callback = PruningCallback()
    make_trainer(tmp_path, [callback], model=model).train()
    after = Masks.from_weights(model)
    assert callback.reports == []
    assert all(torch.equal(mask, after[name]) for name, mask in masks.items())
    assert not any(torch.equal(weight, before[name]) for name, weight in prunable_weights(model).items())


class Moments(TrainerCallback):
    """Finds optimizer moments and gradients of pruned weights that are not zero."""

    def __init__(self, pruning):
        self.pruning, self.stray, self.checked = pruning, 0, 0

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        for name, weight in prunable_weights(kwargs["model"]).items():
            pruned = ~self.pruning.masks[name]
            values = [
                v for v in kwargs["optimizer"].state.get(weight, {}).values() if v.shape == weight.shape
            ]
            for value in [weight.grad, *values]:
                self.checked += int(pruned.sum())
                self.stray += int((value[pruned] != 0).sum())


def test_gradients_and_optimizer_moments_of_pruned_weights_are_zero(tmp_path):
    callback = make_callback()
    moments = Moments(callback)
    make_trainer(tmp_path, [callback, moments]).train()
    assert moments.checked > 10_000
    assert moments.stray == 0


def test_a_trained_model_is_left_without_hooks(tmp_path):
    trainer = make_trainer(tmp_path, [make_callback()])
    trainer.train()
    assert not any(weight._backward_hooks for weight in prunable_weights(trainer.model).values())


def test_frozen_encoder_weights_are_left_in_peace(tmp_path):
    model = make_bert()
    for weight in prunable_weights(model).values():
        weight.requires_grad_(False)
    callback = make_callback(criterion="magnitude")
    make_trainer(tmp_path, [callback], model=model).train()
    assert callback.masks.sparsity == pytest.approx(0.75, abs=1e-3)


def test_plans_that_cannot_work_are_refused_before_training(tmp_path):
    with pytest.raises(UsageError, match="10"):
        late = CubicSchedule(0.5, 0.7, start=2, end=10, frequency=4, unit="steps")
        make_trainer(tmp_path, [make_callback(late)]).train()
    with pytest.raises(UsageError, match="load_best_model_at_end"):
        make_trainer(
            tmp_path,
            [make_callback()],
            load_best_model_at_end=True,
            eval_strategy="no",
            save_strategy="no",
        ).train()
    with pytest.raises(UsageError, match="inputs|outputs"):
        make_trainer(tmp_path, [make_callback(pattern="32x1")]).train()


@pytest.mark.parametrize(
    "options",
    [
        {"scope": "uniform"},
        {"gradients": 0},
        {"gradient_batch_size": 0},
        {"criterion": "random"},
        {"pattern": "big"},
        {"pattern": "2:4"},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(UsageError):
        make_callback(**options)
