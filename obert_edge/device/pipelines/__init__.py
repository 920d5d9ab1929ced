"""From the model's arrays to answers about texts: one pipeline per type of task.

To add one, write a file beside this one with a :class:`~obert_edge.device.pipelines.base.Pipeline` and what
it returns, and give it a row in :data:`PIPELINES`. A type of task that bundles do not have yet also needs its
name in ``TASK_TYPES`` of ``bundle/manifest.py``, and a compiler that writes it.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, Mapping

from obert_edge.bundle.manifest import Manifest
from obert_edge.device.pipelines.base import Model, Pipeline, Prediction
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import BundleError, UsageError

__all__ = ["PIPELINES", "Model", "Pipeline", "Prediction", "create_pipeline"]

#: Type of task in the manifest -> the file beside this one and the class of its pipeline.
PIPELINES = {
    "sequence-classification": ("classification", "Classifier"),
    "question-answering": ("question_answering", "QuestionAnswerer"),
    "token-classification": ("token_classification", "EntityFinder"),
    "masked-lm": ("fill_mask", "MaskFiller"),
    "encoder": ("feature_extraction", "Embedder"),
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
        UsageError: an option this task does not have.
        BundleError: a type of task that has no pipeline here.
    """
    task = manifest.task.type
    if task not in PIPELINES:
        raise BundleError(
            f"the bundle's task is {task!r}; predict() knows {', '.join(PIPELINES)}",
            hint="use `Session.run` with token ids, or a newer obert-edge",
        )
    module, name = PIPELINES[task]
    pipeline = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    own = {f.name for f in dataclasses.fields(pipeline)} - {f.name for f in dataclasses.fields(Pipeline)}
    unknown = sorted(set(options) - own)
    if unknown:
        raise UsageError(
            f"predict() of a {task} bundle has no option {unknown[0]!r}",
            hint=f"its options are {', '.join(sorted(own)) or 'none'}",
        )
    created = pipeline(manifest, tokenizer, model, **options)
    assert isinstance(created, Pipeline)
    return created
