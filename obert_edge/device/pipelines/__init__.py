"""From the model's arrays to answers about texts: one pipeline per type of task.

To add one, write a file beside this one with a :class:`~obert_edge.device.pipelines.base.Pipeline` and what
it returns, and give it a row in :data:`PIPELINES`. A type of task that bundles do not have yet also needs its
name in ``TASK_TYPES`` of ``bundle/manifest.py``, and a compiler that writes it.
"""

from __future__ import annotations

import importlib
from typing import Any, Dict, Mapping, Type

from obert_edge.bundle.manifest import Manifest
from obert_edge.device.pipelines.base import Model, Pipeline, Prediction
from obert_edge.device.pipelines.options import TaskOption, options_of
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import BundleError, UsageError

__all__ = [
    "PIPELINES",
    "Model",
    "Pipeline",
    "Prediction",
    "TaskOption",
    "bundle_options",
    "create_pipeline",
    "task_options",
]

#: Type of task in the manifest -> the file beside this one and the class of its pipeline.
PIPELINES = {
    "sequence-classification": ("classification", "Classifier"),
    "question-answering": ("question_answering", "QuestionAnswerer"),
    "token-classification": ("token_classification", "EntityFinder"),
    "masked-lm": ("fill_mask", "MaskFiller"),
    "encoder": ("feature_extraction", "Embedder"),
}


def task_options(task: str) -> Mapping[str, TaskOption]:
    """The options of a task by name.

    Args:
        task: a key of :data:`PIPELINES`.
    """
    return options_of(_pipeline_class(task))


def bundle_options(manifest: Manifest) -> Dict[str, TaskOption]:
    """The options that mean something for a bundle, by name.

    Raises:
        BundleError: a type of task that has no pipeline here.
    """
    _check_task(manifest)
    pipeline = _pipeline_class(manifest.task.type)
    return {
        name: option
        for name, option in options_of(pipeline).items()
        if name not in pipeline.without_effect(manifest)
    }


def create_pipeline(
    manifest: Manifest, tokenizer: Tokenizer, model: Model, options: Mapping[str, Any]
) -> Pipeline:
    """The pipeline of the bundle's task.

    Args:
        manifest: of the bundle.
        tokenizer: of the bundle.
        model: what runs the tokenized texts.
        options: the pipeline's own fields, by name.

    Raises:
        UsageError: an option this bundle's task does not have, or a value it cannot have.
        BundleError: a type of task that has no pipeline here.
    """
    _check_task(manifest)
    task = manifest.task.type
    own = bundle_options(manifest)
    unknown = sorted(set(options) - set(own))
    if unknown:
        kind = f" of problem type {manifest.task.problem_type}" if manifest.task.problem_type else ""
        raise UsageError(
            f"predict() of a {task} bundle{kind} has no option {unknown[0]!r}",
            hint=f"its options are {', '.join(sorted(own)) or 'none'}",
        )
    for name, value in options.items():
        own[name].check(value)
    return _pipeline_class(task)(manifest, tokenizer, model, **options)


def _check_task(manifest: Manifest) -> None:
    task = manifest.task.type
    if task not in PIPELINES:
        raise BundleError(
            f"the bundle's task is {task!r}; predict() knows {', '.join(PIPELINES)}",
            hint="use `Session.run` with token ids, or a newer obert-edge",
        )


def _pipeline_class(task: str) -> Type[Pipeline]:
    module, name = PIPELINES[task]
    found: Type[Pipeline] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return found
