"""What of a batch a model takes, and which of its tokens are real."""

from __future__ import annotations

import inspect
from typing import Any, Dict, FrozenSet, Mapping, Optional, Tuple

import torch


def input_names(model: Any) -> FrozenSet[str]:
    """The arguments of a transformers model's forward pass that are inputs, not labels or options."""
    # A forward pass also takes labels and switches such as output_attentions, which batches must not set.
    known = {"input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds"}
    if getattr(getattr(model, "config", None), "type_vocab_size", None) in (0, 1):
        known.remove("token_type_ids")  # all are of one type, whatever its tokenizer calls them
    return frozenset(known & set(inspect.signature(model.forward).parameters))


def inputs_of(
    model: Any, batch: Mapping[str, torch.Tensor]
) -> Tuple[Dict[str, torch.Tensor], Optional[torch.Tensor]]:
    """The inputs of a model in a batch, on its device, and where its tokens are real.

    Returns:
        The arguments by name; and bool ``[batch, tokens]``, or None: every token is real.
    """
    accepted = input_names(model)
    device = next(model.parameters()).device
    inputs = {key: value.to(device) for key, value in batch.items() if key in accepted}
    mask = inputs.get("attention_mask")
    return inputs, None if mask is None or bool(mask.all()) else mask.bool()
