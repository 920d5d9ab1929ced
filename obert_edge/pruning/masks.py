"""Which weights are pruned: the tensors that may be, and the masks over them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Tuple, Union, cast

import torch
from torch import Tensor, nn

from obert_edge.errors import CheckpointError, UsageError
from obert_edge.files import atomic_file
from obert_edge.pruning.patterns import Pattern

# The six linear layers of an encoder block, by transformers' module paths: Bert, Roberta and
# Electra share one naming, DistilBert has its own. Embeddings (Electra's projection included),
# pooler and heads have other paths and so stay dense, as in the paper (section 4).
_ENCODER_LINEAR = re.compile(
    r"(?:.*\.)?(?:"
    r"encoder\.layer\.\d+\.(?:attention\.self\.(?:query|key|value)|attention\.output\.dense"
    r"|intermediate\.dense|output\.dense)"
    r"|transformer\.layer\.\d+\.(?:attention\.(?:q_lin|k_lin|v_lin|out_lin)|ffn\.lin[12])"
    r")"
)


def prunable_linears(model: nn.Module) -> Dict[str, nn.Module]:
    """The linear modules of the encoder blocks, by module path, in the model's order.

    These are query, key, value, attention output and the two feed-forward matrices of every
    layer of a Bert, DistilBert, Roberta or Electra model (any head). Modules are recognised by
    path and by a two-dimensional ``weight``, so fake-quantised linears count as well.

    Raises:
        UsageError: the model has none.
    """
    found: Dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if _ENCODER_LINEAR.fullmatch(name) and isinstance(weight, Tensor) and weight.dim() == 2:
            found[name] = module
    if not found:
        raise UsageError(
            f"{type(model).__name__} has no encoder linears that pruning knows",
            hint="use a Bert, DistilBert, Roberta or Electra model of transformers",
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
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0.0 <= sparsity < 1.0:
        raise UsageError(
            f"sparsity is {sparsity}, it must be at least 0 and below 1",
            hint="give the share of encoder weights to remove, such as 0.8 for 80 %",
        )
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
                # masked_fill, not a product: -w * 0 is -0.0, and inf * 0 is NaN.
                weight.masked_fill_(~mask.to(weight.device), 0.0)

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

    The number of removed groups is the nearest whole number to ``sparsity`` times all groups.
    Equal scores are taken in the order of the mapping and row-major inside a tensor, so the
    choice never depends on the machine.

    Args:
        scores: per module, float [out / rows, in / columns]; ``-inf`` marks groups that are
            already pruned, they always come first.
        pattern: shape of a group.
        sparsity: share of groups to be removed in the end, those already pruned included.
        scope: "global" (one threshold over all modules, as in the paper) or "layer" (the same
            sparsity in each module).

    Returns:
        Per module a bool tensor of the shape of its scores; True means removed.

    Raises:
        UsageError: unknown scope, or a sparsity the pattern cannot have.
    """
    check_sparsity(sparsity, pattern)
    if scope == "layer":
        removed: Dict[str, Tensor] = {}
        for name, tensor in scores.items():
            removed.update(select({name: tensor}, pattern=pattern, sparsity=sparsity, scope="global"))
        return removed
    if scope != "global":
        raise UsageError(f'scope is "{scope}"', hint='use "global" or "layer"')
    total = sum(tensor.numel() for tensor in scores.values())
    count = int(sparsity * total + 0.5)
    flat = torch.cat(
        [
            tensor.masked_fill(~pattern.removable(tensor), float("inf")).flatten().float().cpu()
            for tensor in scores.values()
        ]
    )
    chosen = _lowest(flat, count)
    shapes: List[Tuple[str, torch.Size]] = [(name, tensor.shape) for name, tensor in scores.items()]
    parts = torch.split(chosen, [shape.numel() for _, shape in shapes])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes, parts)}


def _lowest(values: Tensor, count: int) -> Tensor:
    """Mark the ``count`` lowest of ``values``, the first of equals, without sorting everything."""
    chosen = torch.zeros_like(values, dtype=torch.bool)
    if count == 0:
        return chosen
    threshold = values.kthvalue(count).values
    chosen = values < threshold
    ties = (values == threshold).nonzero().flatten()
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen
