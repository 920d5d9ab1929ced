"""Some layers of the encoder stay, the others go; what is left learns from the whole (paper section 4.3)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Union

from torch import nn

from obert_edge.errors import UsageError
from obert_edge.host.data import Task, load_tokenizer
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


def drop_layers(
    model: Union[str, Path],
    task: Task,
    output: Union[str, Path],
    *,
    keep: Sequence[int],
    training: Optional[Training] = None,
    distillation: Optional[Distillation] = None,
    limit: Optional[int] = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Dict[str, Any]:
    """Keep some layers of an encoder, then train with the whole model as teacher.

    Args:
        model: folder of the model, with the task's head where a teacher is needed.
        task: from :func:`obert_edge.host.data.load_task`.
        output: folder to write; appears only when everything is in it.
        keep: layers to keep, counted from 0, rising. The paper does not say which its models keep;
            recipes of its authors keep 0, 2, 4, 6, 8, 11 and 0, 6, 11 of twelve.
        training: steps and rates; of 0 epochs: only drop.
        distillation: default: hardness 1, ``model`` itself is the teacher. With hidden states, each layer
            learns from the one it was.
        limit: use only the first rows of train.
        progress: show a progress bar on stderr.
        overwrite: replace an existing output.

    Returns:
        What ``stage.json`` of the output holds.

    Raises:
        UsageError: there is no such layer, or the output exists.
        CheckpointError: a checkpoint cannot be used.
        DataError: the data cannot be used.
    """
    options, teacher = training or Training(), distillation or Distillation()
    source, target = Path(model), Path(output)
    pad = read_config(source).get("pad_token_id") or 0
    kept = list(keep)
    this = stage_work(target, "drop", source, task, kept, options, teacher, limit)
    with stage_folder(target, overwrite=overwrite) as folder, this as work:
        network = load_model(source, task, seed=options.seed)
        keep_layers(network, kept)
        figures: Dict[str, Any] = {"layers": kept}
        if not options.none:
            tokenizer = load_tokenizer(source)
            features = task.features("train", tokenizer, max_length=options.max_length, limit=limit)
            figures.update(
                train(
                    network,
                    features,
                    options,
                    work,
                    title=f"drop {task.name}",
                    distillation=make_distillation(teacher, source, task, kept),
                    rates=plain_rates(options, total_steps(options, len(features))),
                    pad_token_id=pad,
                    augment=task.augment,
                    score=make_score(task, tokenizer, options, pad),
                    bar=ProgressCallback(f"drop {task.name}") if progress else None,
                )
            )
        save_model(network, source, folder)
        write_sparsity(network, folder)
        report = write_report(
            folder,
            work,
            "drop",
            task,
            training=options,
            figures=figures,
            distillation=None if options.none else dataclasses.asdict(teacher),
        )
    remove_work(target)
    return report


def keep_layers(model: Any, keep: Sequence[int]) -> None:
    """Remove all other layers of an encoder, in place.

    Raises:
        UsageError: ``keep`` is empty, does not rise, or names a layer there is not.
    """
    encoder = getattr(model, model.base_model_prefix, model)
    holder = encoder.encoder if hasattr(encoder, "encoder") else encoder.transformer
    count = len(holder.layer)
    if not keep or list(keep) != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= count:
        raise UsageError(
            f"layers {list(keep)} cannot be kept of {count}",
            hint=f"name layers from 0 to {count - 1}, each once, rising",
        )
    holder.layer = nn.ModuleList([holder.layer[index] for index in keep])
    field = "n_layers" if hasattr(model.config, "n_layers") else "num_hidden_layers"
    setattr(model.config, field, len(keep))
