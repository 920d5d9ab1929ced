"""The empirical Fisher matrix in diagonal blocks (paper sections 3.1 to 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.pruning.criterion import Batch, LossFunction, Progress

# Gradients collected before they are multiplied into the Fisher matrix. Each product reads and
# writes the whole matrix (B floats per weight), so 16 gradients at a time cut that traffic by 16;
# more would cost memory (16 floats per weight) for little.
GRADIENTS_PER_PRODUCT = 16


@dataclass(frozen=True)
class BlockLayout:
    """How the weights of a matrix [out, in] fall into Fisher blocks of ``block_size`` weights.

    ``kind="row"``: a block is consecutive inputs of one output unit; the last block of a row is
    padded where the block size does not divide the row. The inputs of one unit are what can
    compensate for each other, so this is the default.
    ``kind="flat"``: blocks of the row-major flattened matrix, straddling rows, as in the paper
    (section 3.3); the end of the matrix is padded.

    Padding carries no weight and no gradient: it is inert.
    """

    shape: Tuple[int, int]
    block_size: int
    kind: str = "row"

    def __post_init__(self) -> None:
        if self.kind not in ("row", "flat"):
            raise UsageError(f'layout is "{self.kind}"', hint='use "row" or "flat"')
        if self.block_size < 1:
            raise UsageError(f"block_size is {self.block_size}", hint="use 1 or more, such as 32")

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        out, inputs = self.shape
        if self.kind == "row":
            return out * math.ceil(inputs / self.block_size)
        return math.ceil(out * inputs / self.block_size)

    def to_blocks(self, matrix: Tensor) -> Tensor:
        """Cut a matrix [out, in] (or a mask) into [blocks, block_size], padded with zeros."""
        lines = matrix if self.kind == "row" else matrix.reshape(1, -1)
        missing = -lines.shape[1] % self.block_size
        if missing:
            lines = nn.functional.pad(lines, (0, missing))
        return lines.reshape(-1, self.block_size)

    def to_matrix(self, blocks: Tensor, columns: int = 1) -> Tensor:
        """Undo :meth:`to_blocks`: [blocks, block_size / columns] to [out, in / columns].

        Args:
            blocks: one value per weight, or per ``columns`` consecutive weights.
            columns: weights per value; divides the block size and the number of inputs.
        """
        out, inputs = self.shape
        width = inputs // columns
        if self.kind == "row":
            return blocks.reshape(out, -1)[:, :width].contiguous()
        return blocks.reshape(-1)[: out * width].reshape(out, width)


class BlockFisher:
    """Sum of gradient outer products of one matrix, in diagonal blocks.

    Memory: ``blocks * block_size**2`` float32, that is 4 * block_size bytes per weight.

    Args:
        layout: how weights fall into blocks.
        device: where the sum lives.
    """

    def __init__(self, layout: BlockLayout, device: Optional[torch.device] = None) -> None:
        self.layout = layout
        size = layout.block_size
        self.total = torch.zeros(layout.blocks, size, size, device=device)
        self.count = 0

    def add(self, gradients: Tensor) -> None:
        """Add the outer products of ``gradients`` [blocks, c, block_size], float32."""
        self.total.baddbmm_(gradients.transpose(1, 2), gradients)
        self.count += gradients.shape[1]

    def matrix(self, start: int, stop: int, dampening: float) -> Tensor:
        """Blocks ``start:stop`` of the dampened Fisher matrix, float64 [n, B, B].

        Equation 2: ``F = lambda * I + 1/m * sum_i g_i g_i^T`` with lambda the dampening and m the
        number of gradients added.
        """
        matrix = self.total[start:stop].double().div_(max(self.count, 1))
        matrix.diagonal(dim1=-2, dim2=-1).add_(dampening)
        return matrix

    def mean_diagonal(self) -> float:
        """Mean of the diagonal of ``1/m * sum_i g_i g_i^T``: the scale relative dampening refers to."""
        diagonal = self.total.diagonal(dim1=-2, dim2=-1).double()
        return float(diagonal.mean()) / max(self.count, 1)

    def offload(self, path: Path) -> None:
        """Move the sum to a file and map it back read-only, so that its memory can be reclaimed."""
        total = self.total.cpu()
        shape, size = total.shape, total.numel()
        total.numpy().tofile(path)
        self.total = torch.from_file(str(path), shared=False, size=size, dtype=torch.float32).reshape(shape)


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
                hint="give batches with labels, or use the criterion magnitude",
            )
        self._model = model
        self._batches = batches
        self._loss_fn = loss_fn or own_loss

    def __len__(self) -> int:
        return len(self._batches)

    def sample(self, parameters: Sequence[nn.Parameter]) -> Iterator[List[Tensor]]:
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


def accumulate(
    sampler: GradientSampler,
    weights: Dict[str, nn.Parameter],
    masks: Dict[str, Tensor],
    layouts: Dict[str, BlockLayout],
    progress: Optional[Progress] = None,
) -> Dict[str, BlockFisher]:
    """One pass over the gradients: the Fisher blocks of ``weights``.

    Under ``torch.distributed`` each process passes its own batches, and the sums are added up.

    Args:
        sampler: where gradients come from.
        weights: parameters [out, in] by name.
        masks: per name, True where a weight is kept; gradients of pruned weights count as zero.
        layouts: per name, how weights fall into blocks.
        progress: told about each batch.
    """
    fishers = {name: BlockFisher(layouts[name], weight.device) for name, weight in weights.items()}
    chunk = min(GRADIENTS_PER_PRODUCT, len(sampler))
    buffers = {
        name: torch.empty(layout.blocks, chunk, layout.block_size, device=weights[name].device)
        for name, layout in layouts.items()
    }
    filled = 0
    for done, gradients in enumerate(sampler.sample(list(weights.values())), start=1):
        for name, gradient in zip(weights, gradients):
            masked = gradient.float() * masks[name].to(gradient.device)
            buffers[name][:, filled] = layouts[name].to_blocks(masked)
        filled += 1
        if filled == chunk or done == len(sampler):
            for name, fisher in fishers.items():
                fisher.add(buffers[name][:, :filled])
            filled = 0
        if progress is not None:
            progress("gradients", done, len(sampler))
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for fisher in fishers.values():
            count = torch.tensor(float(fisher.count), device=fisher.total.device)
            torch.distributed.all_reduce(fisher.total)
            torch.distributed.all_reduce(count)
            fisher.count = int(count)
    return fishers


class WoodburyInverse:
    """The inverse Fisher blocks by the paper's recursion (section 3.2.2), one gradient at a time.

    ``F_0^-1 = I / lambda`` and, with m the *total* number of gradients,
    ``F_i^-1 = F_{i-1}^-1 - (F_{i-1}^-1 g_i)(F_{i-1}^-1 g_i)^T / (m + g_i^T F_{i-1}^-1 g_i)``.

    It is the reference the direct inverse is tested against. The direct way sums the outer
    products of many gradients in one product and inverts once: the same matrix for a fraction of
    the memory traffic, and better conditioned, since the recursion starts from 1/lambda = 1e7 and
    subtracts its way down.

    Args:
        blocks: number of blocks.
        block_size: B.
        gradients: m.
        dampening: lambda, above 0.
    """

    def __init__(self, blocks: int, block_size: int, gradients: int, dampening: float) -> None:
        identity = torch.eye(block_size, dtype=torch.float64) / dampening
        self.inverse = identity.repeat(blocks, 1, 1)
        self._gradients = gradients

    def add(self, gradient: Tensor) -> None:
        """Take in one gradient [blocks, B]."""
        g = gradient.double().unsqueeze(-1)
        projected = self.inverse @ g
        scale = self._gradients + g.transpose(1, 2) @ projected
        self.inverse -= projected @ projected.transpose(1, 2) / scale
