"""Mini-batch gradients of a model's own loss, taken without leaving a trace in the model."""

from __future__ import annotations

from typing import Generator, List, Optional, Protocol, Sequence

import torch
from torch import Tensor, nn

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.host.pruning.criterion import Batch, LossFunction


class GradientSource(Protocol):
    """Gradients that can be gone through more than once, the same each time."""

    def __len__(self) -> int:
        """Number of gradients m."""

    def sample(self, parameters: Sequence[nn.Parameter]) -> Generator[List[Tensor], None, None]:
        """Yield, one gradient at a time, its parts for ``parameters`` in their order."""


class GradientSampler:
    """Mini-batch gradients of a model's own loss at its current weights.

    As in the paper's code: the gradient of the mean loss over one mini-batch is one sample g_i;
    the model is in evaluation mode (no dropout), in float32 without autocast, and gradients of
    pruned weights are zero. The model is left as it was found: mode, ``requires_grad`` and
    ``.grad`` of every parameter. The forward pass draws no random numbers.

    Args:
        model: the model.
        batches: what to take gradients of; every pass goes over all of them.
        loss_fn: replaces ``model(**batch).loss``.

    Raises:
        UsageError: there is no batch.
    """

    def __init__(
        self, model: nn.Module, batches: Sequence[Batch], loss_fn: Optional[LossFunction] = None
    ) -> None:
        if not batches:
            raise UsageError(
                "this criterion estimates the loss from gradients, and there are no batches",
                hint="give batches with labels, or use the method magnitude",
            )
        self._model = model
        self._batches = batches
        self._loss_fn = loss_fn or own_loss

    def __len__(self) -> int:
        return len(self._batches)

    def sample(self, parameters: Sequence[nn.Parameter]) -> Generator[List[Tensor], None, None]:
        """Yield, for each batch, the gradients of ``parameters`` in their order.

        Raises:
            ObertEdgeError: a loss is not finite.
        """
        model = self._model
        device = parameters[0].device
        training = {module: module.training for module in model.modules()}
        required = {parameter: parameter.requires_grad for parameter in model.parameters()}
        wanted = set(parameters)
        model.eval()
        # Only what is asked for gets a gradient: the backward pass then stops at the first
        # encoder layer and spares the embeddings.
        for parameter in required:
            parameter.requires_grad_(parameter in wanted)
        try:
            for index, batch in enumerate(self._batches):
                on_device = {key: value.to(device) for key, value in batch.items()}
                with torch.enable_grad(), torch.autocast(device.type, enabled=False):
                    loss = self._loss_fn(model, on_device)
                    if not bool(torch.isfinite(loss)):
                        raise ObertEdgeError(
                            f"the loss of gradient batch {index} is {loss.item()}",
                            hint="check the labels of the data, and that the model is trained",
                        )
                    # autograd.grad leaves .grad alone: a training step may be under way.
                    yield list(torch.autograd.grad(loss, list(parameters)))
        finally:
            for parameter, flag in required.items():
                parameter.requires_grad_(flag)
            for module, mode in training.items():
                module.training = mode


def own_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The loss a transformers model computes itself from the labels in the batch.

    Raises:
        UsageError: the model returns no loss.
    """
    loss = getattr(model(**batch), "loss", None)
    if not isinstance(loss, Tensor):
        raise UsageError(
            f"{type(model).__name__} returned no loss for a batch with {sorted(batch)}",
            hint="put the labels into the batch, or give a loss_fn(model, batch)",
        )
    return loss
