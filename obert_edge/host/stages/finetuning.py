"""A pretrained encoder becomes a model of a task: dense, or sparse with its zeros fixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional, Union

from obert_edge.host.data import Task, load_tokenizer
from obert_edge.host.pruning import Masks, PruningCallback
from obert_edge.host.stages.logs import ProgressCallback
from obert_edge.host.stages.models import load_model, read_config, save_model
from obert_edge.host.stages.recipe import Distillation, Training
from obert_edge.host.stages.sparsity import write_sparsity
from obert_edge.host.stages.stage import (
    make_distillation,
    remove_work,
    stage_folder,
    stage_work,
    write_report,
)
from obert_edge.host.stages.timing import plain_rates, total_steps
from obert_edge.host.stages.training import make_score, train


def finetune(
    model: Union[str, Path],
    task: Task,
    output: Union[str, Path],
    *,
    training: Optional[Training] = None,
    limit: Optional[int] = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Dict[str, Any]:
    """Fine-tune a checkpoint on a task's train split.

    Args:
        model: folder of the pretrained checkpoint.
        task: from :func:`obert_edge.host.data.load_task`.
        output: folder to write; appears only when everything is in it.
        training: steps and rates; default :class:`~obert_edge.host.stages.recipe.Training`.
        limit: use only the first rows of train.
        progress: show a progress bar on stderr.
        overwrite: replace an existing output.

    Returns:
        What ``stage.json`` of the output holds: the stage, its options and its training figures.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DataError: the data cannot be used.
        UsageError: the output exists.
    """
    return _finetune(
        "finetune", model, task, output, training, Distillation(hardness=0.0), limit, progress, overwrite
    )


def transfer(
    model: Union[str, Path],
    task: Task,
    output: Union[str, Path],
    *,
    training: Optional[Training] = None,
    distillation: Optional[Distillation] = None,
    limit: Optional[int] = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Dict[str, Any]:
    """Fine-tune a sparse checkpoint with its zeros fixed (sparse transfer, paper section 4.2).

    Args:
        model: folder of a checkpoint that was pruned upstream.
        task: see :func:`finetune`.
        output: see :func:`finetune`.
        training: see :func:`finetune`.
        distillation: a teacher fine-tuned on the task; default: labels only.
        limit: see :func:`finetune`.
        progress: see :func:`finetune`.
        overwrite: see :func:`finetune`.

    Returns:
        What ``stage.json`` of the output holds.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        DataError: the data cannot be used.
        UsageError: the output exists.
    """
    plan = distillation or Distillation(hardness=0.0)
    return _finetune("transfer", model, task, output, training, plan, limit, progress, overwrite)


def _finetune(
    stage: str,
    model: Union[str, Path],
    task: Task,
    output: Union[str, Path],
    training: Optional[Training],
    distillation: Distillation,
    limit: Optional[int],
    progress: bool,
    overwrite: bool,
) -> Dict[str, Any]:
    options = training or Training()
    source, target = Path(model), Path(output)
    pad = read_config(source).get("pad_token_id") or 0
    sparse = stage == "transfer"
    this = stage_work(target, stage, source, task, options, distillation, limit)
    with stage_folder(target, overwrite=overwrite) as folder, this as work:
        tokenizer = load_tokenizer(source)
        features = task.features("train", tokenizer, max_length=options.max_length, limit=limit)
        network = load_model(source, task, seed=options.seed)
        zeros = Masks.from_weights(network).sparsity
        figures: Dict[str, Any] = train(
            network,
            features,
            options,
            work,
            title=f"{'fine-tune' if stage == 'finetune' else stage} {task.name}",
            distillation=make_distillation(distillation, source, task),
            rates=plain_rates(options, total_steps(options, len(features))),
            pad_token_id=pad,
            callbacks=[PruningCallback()] if sparse else [],
            log_extra=(lambda: {"sparsity": zeros}) if sparse else None,
            augment=task.augment,
            score=make_score(task, tokenizer, options, pad),
            bar=ProgressCallback(stage) if progress else None,
        )
        save_model(network, source, folder)
        write_sparsity(network, folder)
        report = write_report(
            folder,
            work,
            stage,
            task,
            training=options,
            figures={**figures, "sparsity": zeros} if sparse else figures,
        )
    remove_work(target)
    return report
