"""Stage 3: the model learns to live with the engine's INT8 arithmetic, or is calibrated for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Union

import torch

from obert_edge.calibration import calibrate
from obert_edge.errors import UsageError
from obert_edge.host.checkpoints.pytorch import quiet_transformers
from obert_edge.host.data import Feature, Task, load_tokenizer
from obert_edge.host.quantization import QATCallback, save_quantized
from obert_edge.host.stages.batching import PadCollator
from obert_edge.host.stages.logs import ProgressCallback
from obert_edge.host.stages.models import copy_tokenizer, load_model, read_config
from obert_edge.host.stages.recipe import Distillation, Quantization, Training
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

_CALIBRATION_BATCH = 8


def quantize(
    model: Union[str, Path],
    task: Task,
    output: Union[str, Path],
    *,
    method: Optional[str] = None,
    quantization: Optional[Quantization] = None,
    training: Optional[Training] = None,
    distillation: Optional[Distillation] = None,
    limit: Optional[int] = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Dict[str, Any]:
    """Quantize a model folder, dense or pruned; zeros stay zero.

    Args:
        model: folder of a float model of the task.
        task: from :func:`obert_edge.host.data.load_task`.
        output: folder to write; appears only when everything is in it.
        method: short for ``quantization.method``: ``qat`` or ``calibrate``.
        quantization: method, activations, observers.
        training: steps and rates of QAT.
        distillation: the teacher of QAT; default: ``model`` itself, hardness 1.
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
    plan = quantization or Quantization()
    if method is not None:
        plan = dataclasses.replace(plan, method=method)
    options, embeddings = training or Training(), plan.embeddings or Quantization.EMBEDDINGS[0]
    source, target = Path(model), Path(output)
    pad = read_config(source).get("pad_token_id") or 0
    qat = plan.method == "qat"
    if qat and options.none:
        raise UsageError(
            "quantization-aware training of 0 steps finds no ranges",
            hint="use method calibrate, or give --epochs or --max-steps",
        )
    this = stage_work(target, "quantize", source, task, plan, options, distillation, limit)
    with stage_folder(target, overwrite=overwrite) as folder, this as work:
        tokenizer = load_tokenizer(source)
        features = task.features("train", tokenizer, max_length=options.max_length, limit=limit)
        network = load_model(source, task, seed=options.seed)
        if qat:
            figures: Dict[str, Any] = train(
                network,
                features,
                options,
                work,
                title=f"quantize {task.name}",
                distillation=make_distillation(distillation or Distillation(), source, task),
                rates=plain_rates(options, total_steps(options, len(features))),
                pad_token_id=pad,
                callbacks=[QATCallback(plan.activations, plan.observe, embeddings)],
                augment=task.augment,
                score=make_score(task, tokenizer, options, pad),
                bar=ProgressCallback(f"quantize {task.name}") if progress else None,
            )
        else:
            batches = calibration_batches(features, plan.calibration_examples, options.seed, pad)
            calibrate(network, batches, plan.observer, plan.activations, embeddings)
            figures = {"examples": min(plan.calibration_examples, len(features))}
        with quiet_transformers():
            save_quantized(network, None, folder, plan.method)
        copy_tokenizer(source, folder)
        write_sparsity(network, folder)
        report = write_report(
            folder,
            work,
            "quantize",
            task,
            training=options,
            figures=figures,
            quantization=dataclasses.asdict(plan),
            distillation=dataclasses.asdict(distillation or Distillation()) if qat else None,
        )
    remove_work(target)
    return report


def calibration_batches(
    features: List[Feature], count: int, seed: int, pad_token_id: int
) -> Iterator[Dict[str, torch.Tensor]]:
    """Batches of ``count`` random features, rows of similar length together."""
    chosen = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:count]
    rows = sorted((features[index] for index in chosen.tolist()), key=lambda f: len(f["input_ids"]))
    collate = PadCollator(pad_token_id)
    for start in range(0, len(rows), _CALIBRATION_BATCH):
        yield collate(rows[start : start + _CALIBRATION_BATCH])
