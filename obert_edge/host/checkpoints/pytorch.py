"""A transformers model from any checkpoint that :class:`Checkpoint` reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Dict, List, Tuple

import numpy as np

from obert_edge.errors import CheckpointError
from obert_edge.host.architectures import architecture_of
from obert_edge.host.checkpoints.checkpoint import Checkpoint, unknown_tensors


def load_pytorch(checkpoint: Checkpoint, class_name: str, **options: Any) -> Tuple[Any, List[str]]:
    """Build a transformers model and give it a checkpoint's weights.

    This is the one way from a model folder to PyTorch: pickles are read with ``weights_only``, the names
    that SparseML's wrappers changed are changed back, and ``config.json`` cannot choose code to run.

    Args:
        checkpoint: the model folder.
        class_name: a class of transformers, such as ``BertForQuestionAnswering``, or only what
            follows the architecture's name: ``ForQuestionAnswering``.
        options: fields of the configuration to set (``num_labels``, ``id2label``, ...).

    Returns:
        The float32 model in evaluation mode, and the names of weights that the checkpoint lacks;
        they are initialized from torch's random state.

    Raises:
        CheckpointError: the architecture is not supported, the weights are scores of movement pruning
            instead of weights, or a tensor has not the shape that ``config.json`` implies.
    """
    import torch
    import transformers

    architecture = architecture_of(checkpoint.config, checkpoint.folder)
    name = class_name if hasattr(transformers, class_name) else architecture.class_prefix + class_name
    model_class = getattr(transformers, name, None)
    if model_class is None:
        raise CheckpointError(
            f"transformers {transformers.__version__} has no class {name}, which {checkpoint.folder} needs",
            hint="install a newer transformers"
            if not hasattr(transformers, f"{architecture.class_prefix}Model")
            else f"{architecture.model_type} has heads for {', '.join(architecture.tasks)}",
        )
    tensors: Dict[str, Any] = {
        key: torch.from_numpy(np.array(checkpoint.tensor(key)))
        for key in checkpoint.names
        if not key.endswith(architecture.ignored)
    }
    if any("mask_scores" in key for key in tensors):
        raise CheckpointError(
            f"{checkpoint.folder} holds the mask scores of movement pruning, not its zeros",
            hint="apply the masks first (bertarize.py of the movement pruning examples)",
        )
    fields = {**checkpoint.config, **options}
    if "num_labels" in options and "id2label" not in options:
        fields.pop("id2label", None)
        fields.pop("label2id", None)
    if not fields.get("id2label") and "num_labels" not in fields:
        fields.pop("id2label", None)
        labels = checkpoint.label_count(architecture)
        fields.update({} if labels is None else {"num_labels": labels})
    for field in ("torch_dtype", "dtype", "quantization_config"):
        fields.pop(field, None)
    if "chunk_size_feed_forward" in fields:
        # It saves memory, changes no result, and refuses lengths that it does not divide.
        fields["chunk_size_feed_forward"] = 0
    try:
        with quiet_transformers():
            config = model_class.config_class.from_dict(fields)
            model, found = model_class.from_pretrained(
                None, config=config, state_dict=tensors, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # the loaders below transformers have no common base of their own
        raise CheckpointError(
            f"{checkpoint.folder} cannot be loaded: {_first_line(error)}",
            hint="use the config.json that was saved with the weights, or download the checkpoint again",
        ) from error
    base = (
        f"{architecture.prefix}." if any(key.startswith(f"{architecture.prefix}.") for key in tensors) else ""
    )
    unknown = unknown_tensors(sorted(found["unexpected_keys"]), architecture, base)
    if unknown:
        raise CheckpointError(
            f"{checkpoint.folder} has tensors that a {name} of this config.json does not: "
            f"{', '.join(unknown[:4])}",
            hint="use the config.json that was saved with these weights; adapters must be merged first",
        )
    return model.eval(), sorted(found["missing_keys"])


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and its table of missing keys while a model is loaded or saved.

    A missing head is no surprise here: it is about to be trained.
    """
    from transformers.utils import logging

    verbosity: int = logging.get_verbosity()
    bars: bool = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
