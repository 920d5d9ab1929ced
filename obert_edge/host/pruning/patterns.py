"""The shapes in which weights may be removed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Tuple, Union

from obert_edge.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

_ACCEPTED = 'use "unstructured", a block OUTxIN such as "4x1", "2x1" or "1x4", or N:M such as "2:4"'


@dataclass(frozen=True)
class Pattern:
    """A shape in which weights of a matrix [out, in] are removed together.

    A block ``OUTxIN`` covers ``rows`` output units by ``columns`` consecutive inputs, aligned to
    its own size; ``1x1`` is unstructured. ``N:M`` keeps at most ``keep`` of every ``of``
    consecutive inputs of one output unit, aligned to ``of``.

    Attributes:
        rows: output units in a block (OUT).
        columns: inputs in a block (IN).
        keep: N of an N:M pattern, or None.
        of: M of an N:M pattern, or None.
    """

    rows: int = 1
    columns: int = 1
    keep: Optional[int] = None
    of: Optional[int] = None

    @classmethod
    def parse(cls, text: Union[str, Pattern]) -> Pattern:
        """Read a pattern as users write it.

        Raises:
            UsageError: the text is not a pattern.
        """
        if isinstance(text, Pattern):
            return text
        spelled = text.strip().lower()
        if spelled == "unstructured":
            return cls()
        block = re.fullmatch(r"(\d+)x(\d+)", spelled)
        if block:
            rows, columns = int(block[1]), int(block[2])
            if min(rows, columns) < 1:
                raise UsageError(f'pattern "{text}" has a side of 0', hint=_ACCEPTED)
            return cls(rows=rows, columns=columns)
        ratio = re.fullmatch(r"(\d+):(\d+)", spelled)
        if ratio:
            keep, of = int(ratio[1]), int(ratio[2])
            if not 0 < keep < of:
                raise UsageError(
                    f'pattern "{text}" keeps {keep} of every {of} weights', hint="N:M needs 0 < N < M"
                )
            return cls(keep=keep, of=of)
        raise UsageError(f'"{text}" is not a pruning pattern', hint=_ACCEPTED)

    def __str__(self) -> str:
        if self.of is not None:
            return f"{self.keep}:{self.of}"
        return "unstructured" if self.size == 1 else f"{self.rows}x{self.columns}"

    @property
    def size(self) -> int:
        """Weights in one group that is removed whole (1 for N:M, where single weights go)."""
        return self.rows * self.columns

    @property
    def max_sparsity(self) -> float:
        """The largest sparsity the pattern can have: 1 - N/M, or 1."""
        return 1.0 if self.keep is None or self.of is None else 1.0 - self.keep / self.of

    def check(self, name: str, shape: Tuple[int, ...]) -> None:
        """Check that the pattern tiles a matrix.

        Raises:
            UsageError: it does not; the message names the tensor, its shape and a fix.
        """
        if len(shape) != 2:
            raise UsageError(
                f"{name} has shape {tuple(shape)}, a pattern applies to a matrix [out, in]",
                hint="leave this tensor out of pruning",
            )
        out, inputs = shape
        if self.of is not None:
            if inputs % self.of:
                raise UsageError(
                    f"pattern {self} does not fit {name} of shape [{out}, {inputs}]: "
                    f"{inputs} inputs are not a multiple of {self.of}",
                    hint='use "unstructured", or an M that divides the number of inputs',
                )
            return
        for what, have, side in (("outputs", out, self.rows), ("inputs", inputs, self.columns)):
            if have % side:
                better = Pattern(rows=math.gcd(out, self.rows), columns=math.gcd(inputs, self.columns))
                raise UsageError(
                    f"pattern {self} does not fit {name} of shape [{out}, {inputs}]: "
                    f"{have} {what} are not a multiple of {side}",
                    hint=f'use "{better}", whose sides divide this matrix',
                )

    def group(self, values: Tensor) -> Tensor:
        """Sum values [out, in] over each group: [out / rows, in / columns]."""
        if self.size == 1:
            return values
        out, inputs = values.shape
        tiles = values.reshape(out // self.rows, self.rows, inputs // self.columns, self.columns)
        return tiles.sum(dim=(1, 3))

    def expand(self, groups: Tensor) -> Tensor:
        """Spread a value per group [out / rows, in / columns] over its weights [out, in]."""
        if self.size == 1:
            return groups
        return groups.repeat_interleave(self.rows, dim=0).repeat_interleave(self.columns, dim=1)

    def removable(self, scores: Tensor) -> Tensor:
        """Which groups may be removed at all, as bool of the shape of ``scores``.

        For blocks: every one. For N:M: of each M consecutive weights the M - N with the lowest
        scores (the first of equals), so that N always stay.

        Args:
            scores: [out / rows, in / columns], low means cheap to remove.
        """
        import torch

        allowed = torch.ones_like(scores, dtype=torch.bool)
        if self.of is None or self.keep is None:
            return allowed
        cells = scores.reshape(scores.shape[0], -1, self.of)
        order = cells.argsort(dim=-1, stable=True)
        allowed = torch.zeros_like(cells, dtype=torch.bool)
        allowed.scatter_(-1, order[..., : self.of - self.keep], True)
        return allowed.reshape(scores.shape)

    def holds(self, weight: Tensor) -> bool:
        """Whether the zeros of ``weight`` [out, in] have this pattern.

        A block pattern holds when every group is all zero or has no zero; N:M when no M
        consecutive weights have more than N that are not zero.
        """
        kept = weight != 0
        if self.of is not None and self.keep is not None:
            count = kept.reshape(weight.shape[0], -1, self.of).sum(dim=-1)
            return bool((count <= self.keep).all())
        count = self.group(kept.int())
        return bool(((count == 0) | (count == self.size)).all())
