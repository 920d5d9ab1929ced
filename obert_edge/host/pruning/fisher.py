"""The empirical Fisher matrix in diagonal blocks (paper sections 3.1 to 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

import torch
from torch import Tensor, nn

from obert_edge.host.pruning.criteria import SurgeonOptions
from obert_edge.host.pruning.gradients import GradientSource
from obert_edge.host.pruning.parallel import over_spans
from obert_edge.host.pruning.sharding import everyones, send_to_owner, this_process
from obert_edge.progress import Progress

# Bytes of gradients that a thread cuts into blocks and multiplies into the sum at once: on a CPU about what
# its cache holds, on a GPU enough to keep it busy.
_CUT_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}


@dataclass(frozen=True)
class BlockLayout:
    """How the weights of a matrix [out, in] fall into Fisher blocks of ``block_size`` weights.

    ``kind="row"``: a block is consecutive inputs of one output unit; the last block of a row is
    padded where the block size does not divide the row. The inputs of one unit are what can
    compensate for each other, so this is the default.
    ``kind="flat"``: blocks of the row-major flattened matrix, straddling rows, as in the paper
    (section 3.3); the end of the matrix is padded.

    Padding carries no weight and no gradient: it is inert. A block that would be larger than its row
    (or, flat, the matrix) is as large as that: the rest would be padding.
    """

    shape: Tuple[int, int]
    block_size: int
    kind: str = "row"

    def __post_init__(self) -> None:
        SurgeonOptions.check(layout=self.kind, block_size=self.block_size)
        object.__setattr__(self, "block_size", min(self.block_size, self.lines[1]))

    @property
    def lines(self) -> Tuple[int, int]:
        """Number of stretches that are cut into blocks, and the weights in each: rows, or the whole."""
        out, inputs = self.shape
        return (out, inputs) if self.kind == "row" else (1, out * inputs)

    @property
    def blocks_per_line(self) -> int:
        """Blocks in one stretch."""
        return math.ceil(self.lines[1] / self.block_size)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.lines[0] * self.blocks_per_line

    def to_blocks(self, matrix: Tensor) -> Tensor:
        """Cut a matrix [out, in] (or a mask) into [blocks, block_size], padded with zeros."""
        lines = matrix.reshape(self.lines)
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

    Gradients wait until there are ``chunk`` of them, and are then multiplied into the sum at once:
    a product reads and writes the whole sum (B floats per weight), so that memory traffic falls by
    this factor.

    Memory: ``4 * (block_size + chunk)`` bytes per weight, the second part until :meth:`finish`.

    Args:
        layout: how weights fall into blocks.
        device: where the sum lives.
        chunk: gradients in one product.
        first: gradients in the first product, see :func:`first_products`; None: ``chunk``.
    """

    def __init__(
        self,
        layout: BlockLayout,
        device: Optional[torch.device] = None,
        *,
        chunk: int = 16,
        first: Optional[int] = None,
    ) -> None:
        self.layout = layout
        self.count = 0
        self._chunk = chunk
        self._due = first or chunk
        self._waiting: List[Tensor] = []
        self._total = torch.zeros(layout.blocks, layout.block_size, layout.block_size, device=device)
        self._packed: Optional[Tensor] = None
        self._mean_diagonal = 0.0

    def add(self, gradient: Tensor) -> None:
        """Take in one gradient [out, in], float32; it is kept until it is multiplied in."""
        self._waiting.append(gradient)
        if len(self._waiting) == self._due:
            self._multiply()
            self._due = self._chunk

    def finish(self, kept: Optional[Tensor] = None) -> None:
        """Multiply in what still waits, and free the memory of waiting gradients.

        Args:
            kept: mask [out, in]; rows and columns of weights that are not kept become zero, as if
                their gradients had been.
        """
        self._multiply()
        if kept is not None and not bool(kept.all()):
            flags = self.layout.to_blocks(kept.to(self._total.device)).to(self._total.dtype)
            for span in _spans(self.layout.blocks):
                self._total[span].mul_(flags[span].unsqueeze(-1)).mul_(flags[span].unsqueeze(1))
        diagonal = self._total.diagonal(dim1=-2, dim2=-1)
        self._mean_diagonal = float(diagonal.mean(dtype=torch.float64)) / max(self.count, 1)

    def matrix(self, span: slice, dampening: float) -> Tensor:
        """A span of blocks of the dampened Fisher matrix, float64 [n, B, B].

        Equation 2: ``F = lambda * I + 1/m * sum_i g_i g_i^T`` with lambda the dampening and m the
        number of gradients added.
        """
        if self._packed is not None:
            size = self.layout.block_size
            sums = self._packed[span].index_select(1, _unpacking(size)).view(-1, size, size)
        else:
            sums = self._total[span]
        matrix = sums.to(torch.float64).mul_(1.0 / max(self.count, 1))
        matrix.diagonal(dim1=-2, dim2=-1).add_(dampening)
        return matrix

    def mean_diagonal(self) -> float:
        """Mean of the diagonal of ``1/m * sum_i g_i g_i^T``: the scale relative dampening refers to."""
        return self._mean_diagonal

    def offload(self, path: Path) -> None:
        """Move the finished sum to a file and free its memory.

        The file has the upper triangle of every block and is mapped back read-only, so that what
        the system caches of it can be reclaimed.
        """
        indices = _packing(self.layout.block_size).to(self._total.device)
        width = len(indices)
        path.touch()

        def write(span: slice) -> None:
            packed = self._total[span].flatten(1).index_select(1, indices).cpu()
            with path.open("r+b") as file:
                file.seek(4 * width * span.start)
                file.write(packed.numpy().data)

        over_spans(write, _spans(self.layout.blocks, 512), self._total.device)
        count = self.layout.blocks * width
        mapped = torch.from_file(str(path), shared=False, size=count, dtype=torch.float32)
        self._packed = mapped.reshape(-1, width)
        self._total = torch.empty(0)

    def _multiply(self) -> None:
        if not self._waiting:
            return
        layout, count = self.layout, len(self._waiting)
        # Blocks are cut out of the gradients and multiplied while they are still in the cache.
        memory = _CUT_BYTES.get(self._total.device.type, _CUT_BYTES["cpu"])
        length = max(1, memory // (4 * count * layout.block_size))
        if layout.lines[0] > 1:  # whole lines
            length = layout.blocks_per_line * max(1, length // layout.blocks_per_line)
            dim, step = 0, length // layout.blocks_per_line
        else:
            dim, step = 1, length * layout.block_size
        # Cut by one call per gradient: slicing in the threads would have them wait for each other.
        pieces = list(zip(*(torch.split(one.reshape(layout.lines), step, dim) for one in self._waiting)))

        def work(span: slice) -> None:
            part = torch.stack(pieces[span.start // length])
            missing = -part.shape[2] % layout.block_size
            if missing:
                part = nn.functional.pad(part, (0, missing))
            gradients = part.view(count, -1, layout.block_size).transpose(0, 1)
            # The sum over i of g_i g_i^T in equation 2, of the diagonal blocks alone (section 3.3).
            self._total[span].baddbmm_(gradients.transpose(1, 2), gradients)

        over_spans(work, _spans(layout.blocks, length), self._total.device)
        self.count += count
        self._waiting.clear()


def first_products(matrices: int, chunk: int) -> List[int]:
    """How many gradients each of several matrices multiplies in first; after that ``chunk`` at a time.

    If all matrices multiplied at the same gradient, ``chunk`` floats per weight would wait just
    before it. Their turns are spread over the chunk, so that about half of that waits: by
    multiples of the golden ratio, which are spread evenly among any consecutive matrices.
    """
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    return [1 + int(chunk * (index * golden % 1.0)) for index in range(matrices)]


def accumulate(
    source: GradientSource,
    weights: Mapping[str, nn.Parameter],
    masks: Mapping[str, Tensor],
    layouts: Mapping[str, BlockLayout],
    *,
    owners: Optional[Mapping[str, int]] = None,
    chunk: int = 16,
    firsts: Optional[Mapping[str, int]] = None,
    progress: Optional[Progress] = None,
) -> Dict[str, BlockFisher]:
    """One pass over the gradients: the Fisher blocks of ``weights``.

    Under ``torch.distributed`` each process passes its own gradients (not necessarily equally
    many) and gets the Fisher blocks of the matrices it owns, over the gradients of all.

    Args:
        source: where gradients come from.
        weights: parameters [out, in] by name.
        masks: per name, True where a weight is kept; gradients of pruned weights count as zero.
        layouts: per name, how weights fall into blocks.
        owners: per name the rank that owns it; None: this process owns everything.
        chunk: gradients multiplied in at once.
        firsts: by name, how many are multiplied in first; None: ``chunk``.
        progress: told when every process has taken one more gradient.
    """
    rank = this_process()[0]
    owners = owners or dict.fromkeys(weights, rank)
    device = next(iter(weights.values())).device
    firsts = firsts or {}
    fishers = {
        name: BlockFisher(layouts[name], weight.device, chunk=chunk, first=firsts.get(name))
        for name, weight in weights.items()
        if owners[name] == rank
    }
    lengths = everyones(len(source), device)
    samples = source.sample(list(weights.values()))
    for index in range(max(lengths)):
        present = [index < length for length in lengths]
        # A process that has no gradient left still takes part in the sending.
        gradients = next(samples) if present[rank] else list(weights.values())
        for name, gradient in zip(weights, gradients):
            for one in send_to_owner(gradient.detach().float(), owners[name], present):
                fishers[name].add(one)
        if progress is not None:
            progress("gradients", index + 1, max(lengths))
    # The generator restores the model when it ends.
    samples.close()
    for name, fisher in fishers.items():
        fisher.finish(masks[name])
    return fishers


@lru_cache(maxsize=8)
def _packing(size: int) -> Tensor:
    """Indices of the upper triangle in a flattened block."""
    rows, columns = torch.triu_indices(size, size)
    packed: Tensor = rows * size + columns
    return packed


@lru_cache(maxsize=8)
def _unpacking(size: int) -> Tensor:
    """For each entry of a flattened block its place in the packed triangle."""
    place = torch.zeros(size, size, dtype=torch.int64)
    rows, columns = torch.triu_indices(size, size)
    place[rows, columns] = place[columns, rows] = torch.arange(len(rows))
    flat: Tensor = place.flatten()
    return flat


def _spans(blocks: int, length: int = 4096) -> List[slice]:
    return [slice(start, min(start + length, blocks)) for start in range(0, blocks, length)]


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
        dtype: what it is computed in; the paper's code has float32.
    """

    def __init__(
        self,
        blocks: int,
        block_size: int,
        gradients: int,
        dampening: float,
        *,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        identity = torch.eye(block_size, dtype=dtype) / dampening
        self.inverse = identity.repeat(blocks, 1, 1)
        self._gradients = gradients

    def add(self, gradient: Tensor) -> None:
        """Take in one gradient [blocks, B]."""
        g = gradient.to(self.inverse.dtype).unsqueeze(-1)
        projected = self.inverse @ g
        scale = self._gradients + g.transpose(1, 2) @ projected
        self.inverse -= projected @ projected.transpose(1, 2) / scale
