"""Quantization-aware training with transformers' own ``Trainer``."""

from __future__ import annotations

from typing import Any, Dict

import torch
from transformers import TrainerCallback

from obert_edge.errors import UsageError
from obert_edge.host.quantization.convert import quantize_model, set_observers
from obert_edge.host.quantization.modules import QuantLinear


class QATCallback(TrainerCallback):
    """Trains a model with the engine's INT8 arithmetic.

    The model is converted as soon as the Trainer has it (so a checkpoint resumed later finds its
    observers), ranges follow a moving average for the first part of training and are frozen for the
    rest (oBERT, appendix A.7: observers active for the first half), and weights that are zero when
    training starts stay zero.

    Args:
        activations: ``static`` or ``dynamic``; see ``quantize_model``.
        observe: part of the training steps during which ranges are still updated, in (0, 1].
        embeddings: ``int8`` or ``int4``; see ``quantize_model``.

    Raises:
        UsageError: ``observe`` is out of range.
    """

    def __init__(self, activations: str = "static", observe: float = 0.5, embeddings: str = "int8") -> None:
        if not 0 < observe <= 1:
            raise UsageError(f"observe is {observe}; expected a part in (0, 1]", hint="try 0.5")
        self.activations = activations
        self.observe = observe
        self.embeddings = embeddings
        self._masks: Dict[torch.Tensor, torch.Tensor] = {}

    def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Convert the model before the optimizer, or a checkpoint, is there."""
        quantize_model(model, self.activations, self.embeddings)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Convert (if the callback was added late), and remember which weights are zero."""
        quantize_model(model, self.activations, self.embeddings)
        self._masks = zero_masks(model)
        self._set_mode(state, model)

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Freeze the ranges when their part of training is over."""
        self._set_mode(state, model)

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put pruned weights back to zero after the optimizer's step."""
        for weight, mask in self._masks.items():
            weight.mul_(mask)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Freeze the ranges."""
        set_observers(model, "frozen")

    def _set_mode(self, state: Any, model: Any) -> None:
        collecting = state.global_step < max(1, round(self.observe * state.max_steps))
        set_observers(model, "collecting" if collecting else "frozen")


def zero_masks(model: torch.nn.Module) -> Dict[torch.Tensor, torch.Tensor]:
    """Bool masks, False at zeros, of every linear weight of a quantized model that has any zero."""
    masks: Dict[torch.Tensor, torch.Tensor] = {}
    for module in model.modules():
        if isinstance(module, QuantLinear):
            mask = module.weight.detach() != 0
            if not bool(mask.all()):
                masks[module.weight] = mask
    return masks
