"""Stage 1: a pretrained encoder becomes a dense model of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional, Union

from obert_edge.recipe import Training
from obert_edge.tasks import Task, load_tokenizer
from obert_edge.workflow.models import load_model, read_config, save_model
from obert_edge.workflow.stage import stage_folder, stage_work, write_report
from obert_edge.workflow.training import train


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
        task: from :func:`obert_edge.tasks.load_task`.
        output: folder to write; appears only when everything is in it.
        training: steps and rates; default :class:`~obert_edge.recipe.Training`.
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
    options = training or Training()
    source, target = Path(model), Path(output)
    config = read_config(source)
    this = stage_work(target, "finetune", source, task, options)
    with stage_folder(target, overwrite=overwrite) as folder, this as work:
        features = task.features("train", load_tokenizer(source), max_length=options.max_length, limit=limit)
        network = load_model(source, task, seed=options.seed)
        figures = train(
            network,
            features,
            options,
            work,
            title=f"fine-tune {task.name}",
            pad_token_id=config.get("pad_token_id") or 0,
            progress=progress,
        )
        save_model(network, source, folder)
        return write_report(folder, work, "finetune", task, training=options, figures=figures)
