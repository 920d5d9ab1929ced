"""Stage 2: the encoder's weights become zeros, at once or gradually with distillation."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Union

import torch

from obert_edge.files import atomic_file
from obert_edge.host.data import Feature, Task, load_tokenizer
from obert_edge.host.pruning import (
    Masks,
    Pattern,
    PruningCallback,
    Surgeon,
    make_criterion,
    permute_channels,
    prune_one_shot,
)
from obert_edge.host.stages.batching import PadCollator
from obert_edge.host.stages.logs import ProgressCallback
from obert_edge.host.stages.models import load_model, read_config, save_model
from obert_edge.host.stages.recipe import Distillation, Pruning, Training
from obert_edge.host.stages.resume import CHECKPOINTS, last_complete_checkpoint
from obert_edge.host.stages.sparsity import write_sparsity
from obert_edge.host.stages.stage import (
    make_distillation,
    remove_work,
    stage_folder,
    stage_work,
    write_report,
)
from obert_edge.host.stages.timing import make_rates, make_schedule, steps_per_epoch, total_steps
from obert_edge.host.stages.training import make_score, train
from obert_edge.progress import Bar

# What the channel permutation kept, for the report of a run that goes on after it.
_PERMUTATION = "channel_permutation.json"


def prune(
    model: Union[str, Path],
    task: Task,
    output: Union[str, Path],
    *,
    sparsity: Optional[float] = None,
    pattern: Optional[str] = None,
    method: Optional[str] = None,
    pruning: Optional[Pruning] = None,
    training: Optional[Training] = None,
    distillation: Optional[Distillation] = None,
    limit: Optional[int] = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Dict[str, Any]:
    """Prune a fine-tuned model folder.

    With ``training.epochs`` (or ``max_steps``) at 0 the weights go in one step and nothing is
    trained. Otherwise they go on the schedule of ``pruning``, the learning rate rewinds as it says,
    and the model learns from the teacher.

    Args:
        model: folder of the dense model, fine-tuned on the task.
        task: from :func:`obert_edge.host.data.load_task`.
        output: folder to write; appears only when everything is in it.
        sparsity: short for ``pruning.sparsity``; so are ``pattern`` and ``method``.
        pattern: see ``sparsity``.
        method: see ``sparsity``.
        pruning: what is pruned, how and when.
        training: steps and rates.
        distillation: the teacher; default: ``model`` itself, hardness 1.
        limit: use only the first rows of train.
        progress: show progress on stderr.
        overwrite: replace an existing output.

    Returns:
        What ``stage.json`` of the output holds.

    Raises:
        UsageError: a value is out of range, or the output exists.
        CheckpointError: the model cannot be used.
        DataError: the data cannot be used.
    """
    short: Dict[str, Any] = {"sparsity": sparsity, "pattern": pattern, "method": method}
    plan = dataclasses.replace(
        pruning or Pruning(), **{key: value for key, value in short.items() if value is not None}
    )
    options = training or Training()
    shape = Pattern.parse(plan.pattern)
    criterion = make_criterion(plan.method, **_criterion_options(plan, shape))
    source, target = Path(model), Path(output)
    pad = read_config(source).get("pad_token_id") or 0
    this = stage_work(target, "prune", source, task, plan, options, distillation, limit)
    with stage_folder(target, overwrite=overwrite) as folder, this as work:
        tokenizer = load_tokenizer(source)
        features = task.features("train", tokenizer, max_length=options.max_length, limit=limit)
        network = load_model(source, task, seed=options.seed)
        figures: Dict[str, Any] = {}
        permuter = criterion if plan.channel_permutation and isinstance(criterion, Surgeon) else None
        if permuter and last_complete_checkpoint(work / CHECKPOINTS) is None:
            # As in training, which may have run in this process or not: the same groups either way.
            torch.set_flush_denormal(True)
            with Bar() if progress else contextlib.nullcontext() as bar:
                permuted = permute_channels(
                    network,
                    gradient_batches(features, plan, options.seed, pad, task.augment),
                    pattern=shape,
                    sparsity=plan.sparsity,
                    surgeon=permuter,
                    progress=bar.show if bar else None,
                )
            with atomic_file(work / _PERMUTATION) as path:
                path.write_text(json.dumps(dataclasses.asdict(permuted) if permuted else None))
        if permuter:
            figures["channel_permutation"] = json.loads((work / _PERMUTATION).read_text("utf-8"))
        if options.none:
            with Bar() if progress else contextlib.nullcontext() as bar:
                report = prune_one_shot(
                    network,
                    gradient_batches(features, plan, options.seed, pad, task.augment),
                    sparsity=plan.sparsity,
                    pattern=shape,
                    criterion=criterion,
                    scope=plan.scope,
                    gradients=plan.gradients,
                    progress=bar.show if bar else None,
                )
            figures["pruning_steps"] = [report.to_dict()]
        else:
            steps = total_steps(options, len(features))
            schedule = make_schedule(plan, steps)
            shown = ProgressCallback(f"prune {task.name}") if progress else None
            callback = PruningCallback(
                schedule,
                criterion=criterion,
                pattern=shape,
                scope=plan.scope,
                gradients=plan.gradients,
                gradient_batch_size=plan.gradient_batch_size,
                seed=options.seed,
                progress=shown.within_step if shown else None,
            )
            trained = train(
                network,
                features,
                options,
                work,
                title=f"prune {task.name}",
                distillation=make_distillation(distillation or Distillation(), source, task),
                rates=make_rates(options, plan, schedule, steps, steps_per_epoch(options, len(features))),
                pad_token_id=pad,
                callbacks=[callback],
                log_extra=lambda: {"sparsity": callback.masks.sparsity if callback.masks else 0.0},
                augment=task.augment,
                score=make_score(task, tokenizer, options, pad),
                bar=shown,
            )
            figures.update(trained, pruning_steps=callback.history)
        figures["sparsity"] = Masks.from_weights(network).sparsity
        save_model(network, source, folder)
        write_sparsity(network, folder)
        result = write_report(
            folder,
            work,
            "prune",
            task,
            training=options,
            figures=figures,
            pruning=dataclasses.asdict(plan),
            distillation=None if options.none else dataclasses.asdict(distillation or Distillation()),
        )
    remove_work(target)
    return result


def gradient_batches(
    features: List[Feature],
    plan: Pruning,
    seed: int,
    pad_token_id: int,
    augment: Optional[Callable[[Feature, int], Feature]] = None,
) -> Iterator[Dict[str, torch.Tensor]]:
    """Random batches with labels for the gradients of a one-shot step, ``plan.gradients`` of them."""
    collate = PadCollator(pad_token_id)
    generator = torch.Generator().manual_seed(seed)
    drawn: List[int] = []
    for _ in range(plan.gradients):
        while len(drawn) < plan.gradient_batch_size:
            drawn += torch.randperm(len(features), generator=generator).tolist()
        rows, drawn = drawn[: plan.gradient_batch_size], drawn[plan.gradient_batch_size :]
        yield collate([augment(features[row], row) if augment else features[row] for row in rows])


def _criterion_options(plan: Pruning, shape: Any) -> Dict[str, Any]:
    if plan.method != "obert":
        return {}
    return {
        "block_size": plan.block_size,
        "dampening": plan.dampening,
        "layout": plan.layout,
        "solver": plan.solver,
        "selection": plan.selection,
        "rescorings": plan.rescorings,
        "recomputations": plan.recomputations,
        "memory_budget": plan.memory_budget,
    }
