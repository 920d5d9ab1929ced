"""Which weights are pruned: the tensors that may be, and the masks over them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Mapping, Tuple, Union, cast

import torch
from torch import Tensor, nn

from obert_edge.errors import CheckpointError, UsageError
from obert_edge.files import atomic_file
from obert_edge.host.architectures import ARCHITECTURES, Architecture
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.pruning.settings import Pruning

#: Whole numbers of as many bits as a float.
_BITS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}


def kept(values: Tensor, mask: Tensor) -> Tensor:
    """The values that a mask keeps, and exactly 0.0 for the others.

    A product would give -0.0 for some, and NaN for infinity, so every bit of a value is and-ed with one or
    with zero. A CPU takes less time for that than for ``masked_fill``, which was a tenth of a training step.

    Args:
        values: floats of any shape.
        mask: bool, the same shape and device.
    """
    return (_bits(values) & _ones(values, mask)).view(values.dtype)


def _bits(values: Tensor) -> Tensor:
    """The same memory, as whole numbers."""
    return values.view(_BITS[values.dtype])


def _ones(values: Tensor, mask: Tensor) -> Tensor:
    """A whole number of ones for each value that is kept, and of zeros for the others."""
    return mask.to(_BITS[values.dtype]).neg_()


def _layer_linears(architecture: Architecture) -> str:
    """A pattern of the paths, inside the encoder, of the linears of every layer."""
    layer = re.escape(architecture.layer.format(i="LAYER", j="LAYER")).replace("LAYER", r"\d+")
    linears = (re.escape(path).replace("PART", r"\d+") for path in architecture.layer_linears(["PART"]))
    return rf"{layer}\.(?:{'|'.join(linears)})"


# Embeddings (ELECTRA's projection included), pooler and heads have other paths and so stay dense, as in the
# paper (section 4).
_ENCODER_LINEAR = re.compile(
    rf"(?:.*\.)?(?:{'|'.join(dict.fromkeys(map(_layer_linears, ARCHITECTURES.values())))})"
)


def is_prunable(path: str) -> bool:
    """Whether a module path is that of one of the linears of an encoder layer."""
    return _ENCODER_LINEAR.fullmatch(path) is not None


def prunable_linears(model: nn.Module) -> Dict[str, nn.Module]:
    """The linear modules of the encoder blocks, by module path, in the model's order.

    These are query, key, value, attention output and the two feed-forward matrices of every layer of a
    model of ``obert_edge.host.architectures`` (any head); in MobileBERT those of all feed-forward parts,
    and the bottlenecks. Modules are recognized by path and by a two-dimensional ``weight``, so
    fake-quantized linears count as well.

    Raises:
        UsageError: the model has none.
    """
    found: Dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if is_prunable(name) and isinstance(weight, Tensor) and weight.dim() == 2:
            found[name] = module
    if not found:
        raise UsageError(
            f"{type(model).__name__} has no encoder linears that pruning knows",
            hint=f"use a model of transformers of one of these types: {', '.join(ARCHITECTURES)}",
        )
    return found


def prunable_weights(model: nn.Module) -> Dict[str, nn.Parameter]:
    """The weight [out, in] of each of :func:`prunable_linears`, by module path.

    Raises:
        UsageError: the model has none.
    """
    return {name: cast(nn.Parameter, module.weight) for name, module in prunable_linears(model).items()}


def check_sparsity(sparsity: float, pattern: Pattern) -> float:
    """Return ``sparsity`` if ``pattern`` can have it.

    Raises:
        UsageError: it is not in [0, 1), or above what N:M allows.
    """
    Pruning.check(sparsity=sparsity)
    if sparsity > pattern.max_sparsity + 1e-9:
        raise UsageError(
            f"pattern {pattern} cannot be {sparsity:.1%} sparse: at most {pattern.max_sparsity:.1%}",
            hint=f"use sparsity {pattern.max_sparsity:g}, or another pattern",
        )
    return float(sparsity)


class Masks(Mapping[str, Tensor]):
    """For each prunable module path a bool tensor [out, in]; True means the weight is kept."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = {name: tensor.bool() for name, tensor in tensors.items()}

    @classmethod
    def from_weights(cls, model: nn.Module) -> Masks:
        """The masks a model already has: a weight that is exactly zero is pruned."""
        return cls({name: weight.detach() != 0 for name, weight in prunable_weights(model).items()})

    @classmethod
    def all_kept(cls, model: nn.Module) -> Masks:
        """Masks under which no weight is pruned, whatever it is."""
        return cls(
            {
                name: torch.ones_like(weight, dtype=torch.bool)
                for name, weight in prunable_weights(model).items()
            }
        )

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def replace(self, name: str, mask: Tensor) -> None:
        """Set the mask of one module."""
        self._tensors[name] = mask.bool()

    @property
    def pruned(self) -> int:
        """Number of pruned weights."""
        return sum(int((~mask).sum()) for mask in self._tensors.values())

    @property
    def total(self) -> int:
        """Number of weights under a mask, pruned or not."""
        return sum(mask.numel() for mask in self._tensors.values())

    @property
    def sparsity(self) -> float:
        """Share of pruned weights, over all masked modules."""
        return self.pruned / self.total

    def apply(self, model: nn.Module) -> None:
        """Set every pruned weight of the model to exactly zero.

        Raises:
            UsageError: the model's modules or shapes are not those of the masks.
        """
        weights = prunable_weights(model)
        for name, mask in self._tensors.items():
            if name not in weights or weights[name].shape != mask.shape:
                found = tuple(weights[name].shape) if name in weights else "no such module"
                raise UsageError(
                    f"mask of {name} has shape {tuple(mask.shape)}, the model has {found}",
                    hint="use masks made from this model",
                )
            weight = weights[name]
            with torch.no_grad():
                _bits(weight).bitwise_and_(_ones(weight, mask.to(weight.device)))

    def save(self, path: Union[str, Path]) -> None:
        """Write the masks as safetensors, eight weights to a byte."""
        import numpy as np
        from safetensors.numpy import save_file

        packed = {name: np.packbits(mask.cpu().numpy(), axis=1) for name, mask in self._tensors.items()}
        widths = {name: str(mask.shape[1]) for name, mask in self._tensors.items()}
        with atomic_file(Path(path)) as temporary:
            save_file(packed, str(temporary), metadata={"format": "1", **widths})

    @classmethod
    def load(cls, path: Union[str, Path]) -> Masks:
        """Read masks written by :meth:`save`.

        Raises:
            CheckpointError: the file is missing or is not a mask file.
        """
        import numpy as np
        from safetensors import SafetensorError, safe_open

        tensors: Dict[str, Tensor] = {}
        try:
            with safe_open(str(path), framework="numpy") as file:
                metadata = file.metadata() or {}
                for name in file.keys():  # noqa: SIM118 - not a dict, it has no __iter__
                    bits = np.unpackbits(file.get_tensor(name), axis=1, count=int(metadata[name]))
                    tensors[name] = torch.from_numpy(bits.astype(bool))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path} is not a file of pruning masks: {error}",
                hint="remove it: masks are then read from the zeros of the checkpoint",
            ) from error
        return cls(tensors)


def select(
    scores: Mapping[str, Tensor], *, pattern: Pattern, sparsity: float, scope: str
) -> Dict[str, Tensor]:
    """Choose the groups to remove: the lowest scores, exactly as many as the sparsity asks for.

    The number of removed groups is the nearest whole number to ``sparsity`` times all groups (of
    the model, the module or the row). Equal scores are taken in the order of the mapping and
    row-major inside a tensor, so the choice never depends on the machine.

    Args:
        scores: per module, float [out / rows, in / columns]; ``-inf`` marks groups that are
            already pruned, they always come first.
        pattern: shape of a group.
        sparsity: share of groups to be removed in the end, those already pruned included.
        scope: where one threshold holds: "global" (over all modules, as in the paper), "layer"
            (the same sparsity in each module) or "row" (in each row of groups: one output unit,
            or as many as a block has).

    Returns:
        Per module a bool tensor of the shape of its scores; True means removed.

    Raises:
        UsageError: unknown scope, or a sparsity the pattern cannot have.
    """
    check_sparsity(sparsity, pattern)
    Pruning.check(scope=scope)
    if scope == "layer":
        removed: Dict[str, Tensor] = {}
        for name, tensor in scores.items():
            removed.update(select({name: tensor}, pattern=pattern, sparsity=sparsity, scope="global"))
        return removed
    allowed = {name: _stays_at_infinity(tensor, pattern) for name, tensor in scores.items()}
    if scope == "row":
        return {name: _lowest_of_rows(tensor, sparsity) for name, tensor in allowed.items()}
    total = sum(tensor.numel() for tensor in scores.values())
    flat = torch.cat([tensor.flatten() for tensor in allowed.values()])
    del allowed
    chosen = _lowest(flat, int(sparsity * total + 0.5))
    shapes: List[Tuple[str, torch.Size]] = [(name, tensor.shape) for name, tensor in scores.items()]
    parts = torch.split(chosen, [shape.numel() for _, shape in shapes])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes, parts)}


def _stays_at_infinity(scores: Tensor, pattern: Pattern) -> Tensor:
    """Scores as float32 on the CPU, ``inf`` where the pattern lets nothing go."""
    if pattern.of is not None:
        scores = scores.masked_fill(~pattern.removable(scores), float("inf"))
    return scores.float().cpu()


def _lowest_of_rows(scores: Tensor, sparsity: float) -> Tensor:
    """Mark the lowest of every row, the first of equals."""
    count = int(sparsity * scores.shape[1] + 0.5)
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    return chosen.scatter_(1, scores.argsort(dim=1, stable=True)[:, :count], True)


# Values looked at together when a threshold is sought; bounds working memory, not the result.
_PART = 1 << 22


def _lowest(values: Tensor, count: int) -> Tensor:
    """Mark the ``count`` lowest of ``values`` (float32, no NaN), the first of equals.

    The threshold is found digit by digit in the bits, which order like the values: two counts
    over 65536 buckets and no copy of the values, where ``kthvalue`` would copy them and their
    indices (12 bytes per value, 1 GB for BERT-base).
    """
    if count == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    parts = torch.split(values, _PART)
    high, before = _bucket((_ordered(part) >> 16 for part in parts), count)
    inside = torch.cat([bits[(bits >> 16) == high] for bits in map(_ordered, parts)])
    low, below = _bucket([inside & 0xFFFF], count - before)
    threshold = high << 16 | low
    chosen = torch.empty_like(values, dtype=torch.bool)
    ties_left = count - before - below
    for part, mark in zip(parts, torch.split(chosen, _PART)):
        bits = _ordered(part)
        torch.lt(bits, threshold, out=mark)
        if ties_left:
            ties = (bits == threshold).nonzero().flatten()[:ties_left]
            mark[ties] = True
            ties_left -= len(ties)
    return chosen


def _ordered(values: Tensor) -> Tensor:
    """Whole numbers from 0 to 2^32 - 1 that order as float32 values do, int64."""
    bits = (values + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64) + (1 << 31)


def _bucket(digits: Iterable[Tensor], count: int) -> Tuple[int, int]:
    """The 16-bit digit of the ``count``-th lowest number, and how many have a lower one."""
    histogram = torch.zeros(1 << 16, dtype=torch.int64)
    for part in digits:
        histogram += torch.bincount(part, minlength=1 << 16)
    totals = histogram.cumsum(0)
    digit = int(torch.searchsorted(totals, count))
    return digit, int(totals[digit - 1]) if digit else 0
