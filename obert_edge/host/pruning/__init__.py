"""Pruning with oBERT: the encoder's weights become zeros that cost as little accuracy as possible.

Source of the method: Kurtic et al., "The Optimal BERT Surgeon" (EMNLP 2022, arXiv 2203.07259).
See ``docs/guides/pruning.md`` for what follows the paper and what goes beyond it. In short::

    from obert_edge.host import pruning

    # one shot, no training
    report = pruning.prune_one_shot(model, batches, sparsity=0.8, pattern="4x1", gradients=256)

    # gradual, inside transformers' Trainer
    schedule = pruning.CubicSchedule(initial=0.7, final=0.9, start=2, end=26, frequency=4, unit="epochs")
    callback = pruning.PruningCallback(schedule, criterion="obert", pattern="4x1", gradients=256)
    trainer = Trainer(model, ..., callbacks=[callback])

    # learning rate that rewinds whenever weights were removed (start of every cycle)
    rates = pruning.RewindingLearningRate(8e-5, 8e-6, rewinds=[2, 6, 10], end=30, unit="epochs")
    scheduler = rates.scheduler(optimizer, steps_per_epoch=steps_per_epoch)

    # distillation
    teacher = pruning.Teacher(teacher_model)
    distillation = pruning.DistillationLoss(teacher, hardness=1.0, temperature=2.0)
    loss, outputs = distillation(student, inputs)      # inside Trainer.compute_loss

Signatures, all keyword-friendly (defaults are the project's, not the paper's, where they differ)::

    Pattern.parse("unstructured" | "4x1" | "2x1" | "1x4" | "2:4" | ...)           -> Pattern
    prunable_linears(model) -> {module path: Linear};  prunable_weights(model) -> {module path: Parameter}
    Masks.from_weights(model) / .load(path) / .save(path) / .apply(model) / .sparsity
    make_criterion(name, **options)      -> Criterion; names and options are the rows of criteria.CRITERIA:
    Surgeon(block_size=32, dampening=1e-7, ...) "obert", Magnitude() "magnitude", Movement() "movement",
    SoftMovement(...) "soft-movement", Wanda() "wanda", SparseGPT(...) "sparsegpt"
    prune_one_shot(model, batches=None, *, sparsity, pattern="4x1", criterion="obert", scope=None,
                   gradients=256, masks=None, loss_fn=None, progress=None)         -> PruningReport
    permute_channels(model, batches, *, pattern, sparsity, surgeon)   -> ChannelPermutation, or None
    CubicSchedule(initial, final, start, end, frequency, unit="epochs").resolve(steps_per_epoch)
                                                                                   -> {step: sparsity}
    LinearSchedule(same arguments)
    RewindingLearningRate(initial, final, rewinds, end, unit="epochs", warmup=0)
    PruningCallback(schedule, *, criterion="obert", pattern="4x1", scope=None, gradients=256,
                    gradient_batch_size=16, loss_fn=None, seed=42, keep_zeros=True, progress=None)
                                                                                   -> TrainerCallback
    distillation_loss(student_outputs, teacher_outputs, label_loss, *, hardness, temperature) -> Tensor
    Teacher(model);  DistillationLoss(teacher, *, hardness=1.0, temperature=2.0)

``batches`` is any iterable of dictionaries of tensors as the model takes them, labels included;
``loss_fn(model, batch) -> scalar Tensor`` replaces the model's own label loss;
``progress(what, done, total)`` is called as work proceeds.

Importing this package does not import torch: names are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

_HOMES = {
    "Pattern": "patterns",
    "Masks": "masks",
    "prunable_linears": "masks",
    "prunable_weights": "masks",
    "Criterion": "criterion",
    "PruningReport": "criterion",
    "make_criterion": "one_shot",
    "prune_one_shot": "one_shot",
    "Surgeon": "surgeon",
    "permute_channels": "permutation",
    "Magnitude": "magnitude",
    "Movement": "movement",
    "SoftMovement": "soft_movement",
    "Wanda": "wanda",
    "SparseGPT": "sparsegpt",
    "CubicSchedule": "schedule",
    "LinearSchedule": "schedule",
    "RewindingLearningRate": "schedule",
    "PruningCallback": "callback",
    "DistillationLoss": "distillation",
    "Teacher": "distillation",
    "distillation_loss": "distillation",
    "EmbeddingDistillation": "embedding_distillation",
    "OutputLoss": "output_gradients",
}

if TYPE_CHECKING:
    from obert_edge.host.pruning.callback import PruningCallback as PruningCallback
    from obert_edge.host.pruning.criterion import Criterion as Criterion
    from obert_edge.host.pruning.criterion import PruningReport as PruningReport
    from obert_edge.host.pruning.distillation import DistillationLoss as DistillationLoss
    from obert_edge.host.pruning.distillation import Teacher as Teacher
    from obert_edge.host.pruning.distillation import distillation_loss as distillation_loss
    from obert_edge.host.pruning.embedding_distillation import EmbeddingDistillation as EmbeddingDistillation
    from obert_edge.host.pruning.magnitude import Magnitude as Magnitude
    from obert_edge.host.pruning.masks import Masks as Masks
    from obert_edge.host.pruning.masks import prunable_linears as prunable_linears
    from obert_edge.host.pruning.masks import prunable_weights as prunable_weights
    from obert_edge.host.pruning.movement import Movement as Movement
    from obert_edge.host.pruning.one_shot import make_criterion as make_criterion
    from obert_edge.host.pruning.one_shot import prune_one_shot as prune_one_shot
    from obert_edge.host.pruning.output_gradients import OutputLoss as OutputLoss
    from obert_edge.host.pruning.patterns import Pattern as Pattern
    from obert_edge.host.pruning.permutation import permute_channels as permute_channels
    from obert_edge.host.pruning.schedule import CubicSchedule as CubicSchedule
    from obert_edge.host.pruning.schedule import LinearSchedule as LinearSchedule
    from obert_edge.host.pruning.schedule import RewindingLearningRate as RewindingLearningRate
    from obert_edge.host.pruning.soft_movement import SoftMovement as SoftMovement
    from obert_edge.host.pruning.sparsegpt import SparseGPT as SparseGPT
    from obert_edge.host.pruning.surgeon import Surgeon as Surgeon
    from obert_edge.host.pruning.wanda import Wanda as Wanda

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name from the module it lives in, on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted([*globals(), *_HOMES])
