"""Quantization-aware training with transformers' own Trainer."""

from __future__ import annotations

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from obert_edge.errors import UsageError
from obert_edge.host.quantization import QATCallback, is_quantized, quantizers
from tests.host.quantization.tiny_models import make_batch, make_model


class Sentences(torch.utils.data.Dataset):
    """The label is whether the first token is of the lower half of the vocabulary."""

    def __init__(self, count=64):
        self.batch = make_batch(sequences=count, padding=True)

    def __len__(self):
        return len(self.batch["input_ids"])

    def __getitem__(self, i):
        item = {name: tensor[i] for name, tensor in self.batch.items()}
        return {**item, "labels": int(item["input_ids"][0] < 47)}


class Watch(TrainerCallback):
    """Notes mode and scale of one quantizer before every step."""

    def __init__(self):
        self.seen = []

    def on_step_end(self, args, state, control, model=None, **_):
        quantizer = quantizers(model)["classifier:input"]
        self.seen.append((quantizer.mode, quantizer.scale))


def make_trainer(folder, model, *callbacks, **changes):
    arguments = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 16,
        "max_steps": 8,
        "learning_rate": 2e-3,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 1,
        **changes,
    }
    return Trainer(
        model, TrainingArguments(**arguments), train_dataset=Sentences(), callbacks=list(callbacks)
    )


def test_the_model_is_converted_as_soon_as_the_trainer_has_it(tmp_path):
    model = make_model(num_labels=2)
    make_trainer(tmp_path, model, QATCallback())
    assert is_quantized(model)


def test_ranges_are_collected_for_the_first_part_and_then_frozen(tmp_path):
    watch = Watch()
    make_trainer(tmp_path, make_model(num_labels=2), QATCallback(observe=0.5), watch).train()
    modes, scales = zip(*watch.seen)
    assert modes == ("collecting",) * 4 + ("frozen",) * 4
    assert len(set(scales[:4])) == 4
    assert len(set(scales[3:])) == 1


def test_pruned_weights_stay_zero_and_the_others_learn(tmp_path):
    model = make_model(num_labels=2)
    weight = model.bert.encoder.layer[0].intermediate.dense.weight
    with torch.no_grad():
        weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.8] = 0
    before = weight.detach().clone()
    make_trainer(tmp_path, model, QATCallback(), weight_decay=0.1).train()
    assert torch.equal(weight == 0, before == 0)
    kept = before != 0
    assert (weight[kept] != before[kept]).float().mean() > 0.99


def test_training_learns(tmp_path):
    model = make_model(num_labels=2, hidden_dropout_prob=0.0)
    trainer = make_trainer(tmp_path, model, QATCallback(), max_steps=40)
    trainer.train()
    metrics = trainer.evaluate(Sentences())
    assert metrics["eval_loss"] < 0.3  # ln 2 = 0.69 before training


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path):
    """Its checkpoint carries the ranges of the observers."""
    whole, resumed = make_model(num_labels=2), make_model(num_labels=2)
    saving = {"save_strategy": "steps", "save_steps": 5}
    make_trainer(tmp_path, whole, QATCallback(), **saving).train()
    trainer = make_trainer(tmp_path, resumed, QATCallback(), **saving)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


@pytest.mark.parametrize("observe", [0, -0.5, 1.01])
def test_the_observed_part_is_checked(observe):
    with pytest.raises(UsageError, match="observe"):
        QATCallback(observe=observe)
