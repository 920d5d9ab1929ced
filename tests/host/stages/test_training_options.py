"""Every training option gives the weights of a plain PyTorch loop that does what the option's help says."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any, Dict, List, NamedTuple, Optional

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from obert_edge.host.data import Task, load_task, load_tokenizer
from obert_edge.host.data.question_answering import QuestionAnswering
from obert_edge.host.pruning import Masks, prune_one_shot
from obert_edge.host.stages import drop_layers, finetune, prune, transfer
from obert_edge.host.stages.batching import FeatureDataset, LengthGroupedSampler, PadCollator
from obert_edge.host.stages.models import load_model, save_model
from obert_edge.host.stages.recipe import Distillation, Pruning, Training
from obert_edge.host.stages.training import training_mode

SMALL = Training(max_steps=5, batch_size=16, max_length=16, learning_rate=1e-3, dropout=0.0, save_steps=100)
#: Float32 sums in another order; Adam's first steps amplify what is left of a gradient near zero. A step
#: moves a weight by about the learning rate, twenty times this.
TOLERANCE = {"rtol": 2e-3, "atol": 5e-5}


class Lesson(NamedTuple):
    """A teacher's part in a loss, written down anew."""

    model: nn.Module
    hardness: float
    temperature: float
    hidden: float = 0.0


@pytest.fixture(scope="module")
def cut(tmp_path_factory, data):
    """The text task with a train split that no batch size divides."""
    folder = tmp_path_factory.mktemp("cut")
    (folder / "train.jsonl").write_text(
        "\n".join((data / "train.jsonl").read_text().splitlines()[:53]) + "\n"
    )
    (folder / "dev.jsonl").write_text((data / "dev.jsonl").read_text())
    return load_task("text", folder)


@pytest.fixture(scope="module")
def tasks(cut, data, tmp_path_factory):
    """A task for each kind of head that loss is a mean over: rows, labeled tokens, masked tokens, spans."""
    folder = tmp_path_factory.mktemp("tasks")
    texts = [
        json.loads(line)["text"].split() for line in (data / "train.jsonl").read_text().splitlines()[:53]
    ]
    goods = ("warm", "bright", "gentle", "clever")
    tokens, squad = folder / "tokens", folder / "squad"
    tokens.mkdir()
    squad.mkdir()
    labeled = "".join(json.dumps({"words": t, "labels": [str(w in goods) for w in t]}) + "\n" for t in texts)
    (folder / "mlm.txt").write_text("\n".join(" ".join(t) for t in texts))
    questions = [
        {
            "context": " ".join(t),
            "qas": [{"id": str(i), "question": "film?", "answers": [{"text": t[0], "answer_start": 0}]}],
        }
        for i, t in enumerate(texts)
    ]
    for split in ("train", "dev"):
        (tokens / f"{split}.jsonl").write_text(labeled)
        (squad / f"{split}.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": questions}]}))
    spans = load_task("squad", squad)
    return {
        "text": cut,
        "tokens": load_task("tokens", tokens),
        "mlm": load_task("mlm", folder / "mlm.txt"),
        "squad": QuestionAnswering("squad", {"train": spans.questions("train")}, stride=4),
    }


@pytest.fixture(scope="module")
def start(tasks, encoder, tmp_path_factory):
    """By task a checkpoint whose head is there already, so that every run starts from the same weights."""
    found = {}
    for name, task in tasks.items():
        found[name] = tmp_path_factory.mktemp("start") / name
        found[name].mkdir()
        save_model(load_model(encoder, task, seed=7, new_head=True), encoder, found[name])
    return found


def batches_of_steps(task: Task, folder: Any, options: Training) -> List[List[Dict[str, Tensor]]]:
    """The batches of every step, in the order that the stage trains on."""
    features = task.features("train", load_tokenizer(folder), max_length=options.max_length)
    rows, collate = FeatureDataset(features, task.augment), PadCollator()
    sampler = LengthGroupedSampler(rows.lengths, options.batch_size, options.seed)
    steps: List[List[Dict[str, Tensor]]] = []
    for epoch in range(100):
        sampler.set_epoch(epoch)
        order = list(sampler)
        batches = [
            collate([rows[i] for i in order[at : at + options.batch_size]])
            for at in range(0, len(order), options.batch_size)
        ]
        steps += [batches[at : at + options.accumulate] for at in range(0, len(batches), options.accumulate)]
    return steps[: options.max_steps]


def sums(model: nn.Module, batch: Dict[str, Tensor], lesson: Optional[Lesson]) -> Any:
    """The loss of a batch as a sum, and how many things it is a sum over; the same of hidden states."""
    accepted = {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids")}
    deep = lesson is not None and lesson.hidden > 0
    out = model(**accepted, output_hidden_states=deep)
    if "start_positions" in batch:
        pairs = [(out.start_logits, batch["start_positions"]), (out.end_logits, batch["end_positions"])]
        count = len(batch["input_ids"])
    else:
        labels = batch["labels"].reshape(-1)
        logits = out.logits.reshape(len(labels), -1)
        pairs, count = [(logits, labels)], int((labels != -100).sum())
    loss = sum(cross_entropy(x.float(), y, ignore_index=-100, reduction="sum") for x, y in pairs) / len(pairs)
    hidden, real = torch.zeros(()), int(batch["attention_mask"].sum())
    if lesson is not None:
        with torch.no_grad():
            taught = lesson.model(**accepted, output_hidden_states=deep)
        t = lesson.temperature
        keys = ["start_logits", "end_logits"] if "start_positions" in batch else ["logits"]
        divergence = torch.zeros(())
        for key in keys:
            ours, theirs = out[key], taught[key]
            if ours.dim() == 3:
                chosen = batch["labels"] != -100
                ours, theirs = ours[chosen], theirs[chosen]
            divergence = divergence + t * t * kl_div(
                log_softmax(ours / t, -1), log_softmax(theirs / t, -1), reduction="sum", log_target=True
            )
        loss = (1 - lesson.hardness) * loss + lesson.hardness * divergence / len(keys)
        if deep:
            mask = batch["attention_mask"].bool()
            parts = [
                (a[mask] - b[mask]).square().mean(-1).sum()
                for a, b in zip(out.hidden_states[1:], taught.hidden_states[1:])
            ]
            hidden = lesson.hidden * torch.stack(parts).mean()
    return loss, count, hidden, real


def plain_loop(
    model: nn.Module,
    task: Task,
    folder: Any,
    options: Training,
    *,
    lesson: Optional[Lesson] = None,
    masks: Optional[Masks] = None,
    rates: Optional[List[float]] = None,
) -> nn.Module:
    """AdamW with a linear decay after a linear warm-up, gradients clipped to a norm of 1."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        if options.freeze_embeddings and ".embeddings." in name:
            continue
        plain = name.endswith("bias") or "LayerNorm" in name
        (others if plain else decayed).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=options.learning_rate,
    )
    total = options.max_steps or 0
    warm = round(options.warmup * total)
    for step, batches in enumerate(batches_of_steps(task, folder, options)):
        peak, end = options.learning_rate, options.final_learning_rate
        rate = (
            peak * (step + 1) / warm if step < warm else peak + (end - peak) * (step - warm) / (total - warm)
        )
        for group in optimizer.param_groups:
            group["lr"] = rate if rates is None else rates[step]
        half = (
            torch.autocast("cpu", torch.bfloat16) if options.precision == "bf16" else contextlib.nullcontext()
        )
        with half:
            found = [sums(model, batch, lesson) for batch in batches]
        # One large batch: the sums of all, by the number of all.
        loss = sum(one[0] for one in found) / sum(one[1] for one in found)
        loss = loss + sum(one[2] for one in found) / sum(one[3] for one in found)
        model.zero_grad()
        loss.backward()
        if masks is not None:
            for name, mask in masks.items():
                model.get_submodule(name).weight.grad.mul_(mask)
        # Gradients of frozen embeddings do not count in the norm.
        torch.nn.utils.clip_grad_norm_(decayed + others, 1.0)
        optimizer.step()
        if masks is not None:
            masks.apply(model)
    return model


def assert_same(folder: Any, model: nn.Module, **tolerance: float) -> None:
    found, expected = load_file(folder / "model.safetensors"), model.state_dict()
    assert set(found) <= set(expected)
    # A span's bias shifts all logits of a softmax alike: its gradient is rounding, which Adam makes large.
    for name in sorted(set(found) - {"qa_outputs.bias"}):
        value = found[name]
        torch.testing.assert_close(
            value, expected[name], **{**TOLERANCE, **tolerance}, msg=lambda m, name=name: f"{name}: {m}"
        )


def moved(folder: Any, source: Any) -> float:
    """The largest change of a weight, so that a comparison is one of something."""
    one, other = load_file(folder / "model.safetensors"), load_file(source / "model.safetensors")
    return max(float((one[name] - other[name]).abs().max()) for name in one if name in other)


@pytest.mark.parametrize("name", ["text", "tokens", "mlm", "squad"])
@pytest.mark.parametrize("batch, accumulate", [(16, 1), (4, 4), (7, 2), (53, 1)])
def test_a_step_is_that_of_one_large_batch_however_it_is_cut(tasks, start, name, batch, accumulate, tmp_path):
    options = dataclasses.replace(SMALL, batch_size=batch, accumulate=accumulate)
    report = finetune(start[name], tasks[name], tmp_path / "o", training=options, progress=False)
    expected = plain_loop(load_model(start[name], tasks[name]), tasks[name], start[name], options)
    assert_same(tmp_path / "o", expected)
    assert moved(tmp_path / "o", start[name]) > 1e-3
    assert report.figures.steps == 5


def test_the_loss_that_is_told_is_that_of_the_step(tasks, start, tmp_path):
    told = []
    for batch, accumulate in ((52, 1), (13, 4)):
        options = dataclasses.replace(SMALL, max_steps=1, batch_size=batch, accumulate=accumulate)
        report = finetune(
            start["text"], tasks["text"], tmp_path / str(batch), training=options, limit=52, progress=False
        )
        told.append(report.figures.loss)
    assert told[0] == pytest.approx(told[1], rel=1e-4)
    assert told[0] == pytest.approx(0.693, abs=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"final_learning_rate": 5e-4},
        {"warmup": 0.5},
        {"warmup": 0.0},
        {"weight_decay": 0.5},
        {"weight_decay": 0.0},
        {"freeze_embeddings": True},
        {"gradient_checkpointing": True},
        {"freeze_embeddings": True, "gradient_checkpointing": True, "accumulate": 3},
        {"seed": 3},
        {"max_length": 8},
        {"learning_rate": 1e-2, "weight_decay": 0.3, "warmup": 0.3, "final_learning_rate": 1e-3},
    ],
    ids=str,
)
def test_an_option_does_what_its_help_says(tasks, start, changes, tmp_path):
    options = dataclasses.replace(SMALL, **changes)
    finetune(start["text"], tasks["text"], tmp_path / "o", training=options, progress=False)
    expected = plain_loop(load_model(start["text"], tasks["text"]), tasks["text"], start["text"], options)
    assert_same(tmp_path / "o", expected)


def test_bf16_rounds_activations_and_keeps_weights_in_float32(tasks, start, tmp_path):
    options = dataclasses.replace(SMALL, precision="bf16", learning_rate=1e-4)
    finetune(start["text"], tasks["text"], tmp_path / "o", training=options, progress=False)
    expected = plain_loop(load_model(start["text"], tasks["text"]), tasks["text"], start["text"], options)
    found = load_file(tmp_path / "o" / "model.safetensors")
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert_same(tmp_path / "o", expected, rtol=1e-2, atol=2e-4)


def test_epochs_go_through_every_row_once(tasks, start, tmp_path):
    options = dataclasses.replace(SMALL, max_steps=None, epochs=2.0, batch_size=16, accumulate=2)
    report = finetune(start["text"], tasks["text"], tmp_path / "o", training=options, progress=False)
    assert report.figures.steps == 4  # 53 rows are 4 batches, 2 steps an epoch
    counted = dataclasses.replace(options, max_steps=4)
    expected = plain_loop(load_model(start["text"], tasks["text"]), tasks["text"], start["text"], counted)
    assert_same(tmp_path / "o", expected)


@pytest.mark.parametrize("name", ["text", "tokens", "squad"])
@pytest.mark.parametrize(
    "hardness, temperature, hidden", [(1.0, 2.0, 0.0), (0.5, 5.5, 0.0), (0.3, 1.0, 2.0), (0.0, 1.0, 1.0)]
)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_teachers_part_is_what_was_asked_for(
    tasks, start, dense_of, name, hardness, temperature, hidden, accumulate, tmp_path
):
    task, teacher = tasks[name], dense_of[name]
    options = dataclasses.replace(SMALL, max_steps=3, batch_size=10, accumulate=accumulate)
    plan = Distillation(
        teacher=str(teacher), hardness=hardness, temperature=temperature, hidden_states=hidden
    )
    transfer(start[name], task, tmp_path / "o", training=options, distillation=plan, progress=False)
    lesson = Lesson(load_model(teacher, task), hardness, temperature, hidden)
    expected = plain_loop(load_model(start[name], task), task, start[name], options, lesson=lesson)
    assert_same(tmp_path / "o", expected)


@pytest.fixture(scope="module")
def dense_of(tasks, start, tmp_path_factory):
    """A teacher of each task that answers otherwise than the start."""
    folder = tmp_path_factory.mktemp("teachers")
    options = dataclasses.replace(SMALL, max_steps=8, learning_rate=5e-3)
    for name, task in tasks.items():
        finetune(start[name], task, folder / name, training=options, progress=False)
    return {name: folder / name for name in tasks}


def test_layers_that_are_left_follow_their_own_of_the_teacher(tasks, start, tmp_path):
    task, source = tasks["text"], start["text"]
    plan = Distillation(hardness=1.0, temperature=2.0, hidden_states=1.0)
    drop_layers(source, task, tmp_path / "o", keep=[0], training=SMALL, distillation=plan, progress=False)
    student, teacher = load_model(source, task), load_model(source, task)
    del student.bert.encoder.layer[1]
    student.config.num_hidden_layers = 1

    class First(nn.Module):
        """The teacher, which shows the hidden states of its first layer alone."""

        def forward(self, **inputs: Any) -> Any:
            out = teacher(**inputs)
            out.hidden_states = out.hidden_states[:2]
            return out

    expected = plain_loop(student, task, source, SMALL, lesson=Lesson(First(), 1.0, 2.0, 1.0))
    assert_same(tmp_path / "o", expected)


@pytest.mark.parametrize(
    "changes", [{}, {"weight_decay": 0.5}, {"accumulate": 2}, {"gradient_checkpointing": True}]
)
def test_a_pruned_model_is_trained_as_if_its_zeros_were_not_there(tasks, start, changes, tmp_path):
    task = tasks["text"]
    options = dataclasses.replace(SMALL, **changes)
    model = load_model(start["text"], task)
    prune_one_shot(model, sparsity=0.5, criterion="magnitude")
    (tmp_path / "p").mkdir()
    save_model(model, start["text"], tmp_path / "p")
    transfer(tmp_path / "p", task, tmp_path / "o", training=options, progress=False)
    expected = plain_loop(model, task, tmp_path / "p", options, masks=Masks.from_weights(model))
    assert_same(tmp_path / "o", expected)


def test_the_rate_starts_again_where_weights_go(tasks, start, tmp_path):
    """Magnitude needs no data, so that a pruning step can be written down: weights go, moments go."""
    task, options = tasks["text"], dataclasses.replace(SMALL, max_steps=8, warmup=0.0)
    pruning = Pruning(method="magnitude", sparsity=0.5, initial_sparsity=0.25, steps=2, until=1.0)
    prune(
        start["text"],
        task,
        tmp_path / "o",
        pruning=pruning,
        training=options,
        distillation=Distillation(hardness=0.0),
        progress=False,
    )
    rows = (tmp_path / "o" / "train_log.csv").read_text().splitlines()[1:]
    rates = [float(row.split(",")[3]) for row in rows]
    falling = [1e-3 * (1 - step / 4) for step in range(4)]
    assert rates == pytest.approx(falling + falling)


@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "Roberta", "Electra"])
def test_dropout_reaches_every_probability_of_every_architecture(kind):
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "DistilBert":
        shape = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
    config = getattr(transformers, f"{kind}Config")(vocab_size=40, max_position_embeddings=40, **shape)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).train()
    ids = torch.arange(5, 15)[None]

    def differs() -> bool:
        return not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)

    assert differs()
    with training_mode(model, Training(dropout=0.0)):
        assert not differs()
    with training_mode(model, Training(dropout=0.9)):
        assert differs()
    assert differs()
