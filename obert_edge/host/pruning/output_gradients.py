"""Gradients of what a model gives, in place of those of a loss: the Gauss-Newton matrix without labels."""

from __future__ import annotations

import inspect
import math
import zlib
from typing import Any, Callable, List, Mapping, Optional

import torch
from torch import Tensor, nn

from obert_edge.errors import UsageError
from obert_edge.host.pruning.criterion import Batch
from obert_edge.host.pruning.distillation import LABEL_KEYS

#: From the outputs of a model and the batch they are of to float [rows, numbers]: what must stay as it is.
OutputReader = Callable[[Any, Batch], Tensor]


class OutputLoss:
    """A loss whose gradients have the Gauss-Newton matrix of the outputs as their covariance.

    For a batch of n rows with outputs ``f(x_i)`` it is ``1 / sqrt(n) * sum_i f(x_i)^T v_i`` with random
    vectors ``v_i`` of independent standard normal numbers. With the Jacobians ``J_i`` of the outputs in the
    weights, the gradient is ``1 / sqrt(n) * sum_i J_i^T v_i``, whose covariance is
    ``1 / n * sum_i J_i^T J_i``: the second derivatives of half the squared distance between the outputs of a
    changed model and those of this one, in a mean over rows. A loss against the model's own outputs has this
    very matrix as its second derivatives, too, but gradients of zero, of which no Fisher matrix can be made.

    The scale does not depend on the rows in a batch. The vectors follow from the seed and the token ids
    alone, so that the same batch gives the same gradient in every pass, and no random state is touched.

    Args:
        read: the outputs that count; default: :func:`read_logits`.
        seed: of the vectors.
    """

    def __init__(self, read: Optional[OutputReader] = None, seed: int = 0) -> None:
        self._read = read or read_logits
        self._seed = seed

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch, whose labels are not looked at."""
        accepted = set(inspect.signature(model.forward).parameters) - LABEL_KEYS
        values = self._read(model(**{key: batch[key] for key in batch if key in accepted}), batch)
        ids = batch["input_ids"].detach().cpu().contiguous()
        generator = torch.Generator().manual_seed(zlib.crc32(ids.numpy().tobytes(), self._seed))
        chance = torch.randn(values.shape, generator=generator).to(values.device)
        return (values.float() * chance).sum() / math.sqrt(len(ids))


def read_logits(outputs: Mapping[str, Any], batch: Batch) -> Tensor:
    """The logits of a model with a head, as far as its answers depend on them, [rows, numbers].

    What is added to all logits of one softmax changes no answer, so their mean is taken out. Logits of tokens
    that are padding are left out.

    Raises:
        UsageError: the model has no logits.
    """
    found: List[Tensor] = []
    mask = batch["attention_mask"].bool() if "attention_mask" in batch else None
    for key in (key for key in ("logits", "start_logits", "end_logits") if key in outputs):
        logits: Tensor = outputs[key]
        if key != "logits":  # a softmax over the tokens of a text
            real = torch.ones_like(logits, dtype=torch.bool) if mask is None else mask
            count = real.sum(dim=1, keepdim=True)
            mean = logits.masked_fill(~real, 0.0).sum(dim=1, keepdim=True) / count
            found.append((logits - mean).masked_fill(~real, 0.0))
            continue
        centered = logits - logits.mean(dim=-1, keepdim=True) if logits.shape[-1] > 1 else logits
        if centered.dim() == 3 and mask is not None:
            centered = centered.masked_fill(~mask.unsqueeze(-1), 0.0)
        found.append(centered.flatten(1))
    if not found:
        raise UsageError(
            f"the outputs of the model have no logits, they have {sorted(outputs)}",
            hint="give gradients of a loss, or name the outputs with OutputLoss(read)",
        )
    return torch.cat(found, dim=1)
