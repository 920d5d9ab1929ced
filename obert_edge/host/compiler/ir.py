"""The typed graph between a checkpoint and a program: float, unfused, one assignment per value.

Importers write it, ``passes/fuse.py`` merges element-wise nodes into linears, and
``passes/quantize.py`` lowers it to the engine's ops.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple, Union

import numpy as np
import numpy.typing as npt

from obert_edge.bundle.program import Activation, Domain

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tensor:
    """A float value: ``channels`` numbers per packed token, or per sequence."""

    name: str
    channels: int
    domain: Domain = Domain.TOKENS


@dataclass(frozen=True)
class Embedding:
    """Sum of the rows of the tables; ``word`` [vocabulary, channels] and so on."""

    name: str
    output: Tensor
    word: Floats
    position: Floats
    token_type: Optional[Floats]

    @property
    def inputs(self) -> Tuple[Tensor, ...]:
        """Values it reads: none."""
        return ()


@dataclass(frozen=True)
class LayerNorm:
    """LayerNorm over channels; ``gamma`` and ``beta`` [channels]."""

    name: str
    input: Tensor
    output: Tensor
    gamma: Floats
    beta: Floats
    epsilon: float

    @property
    def inputs(self) -> Tuple[Tensor, ...]:
        """Values it reads."""
        return (self.input,)


@dataclass(frozen=True)
class Linear:
    """``activation(input W^T + b) + residual``; the importer leaves out the last two.

    Attributes:
        quantizer: the module whose ``:input`` scale its input takes.
        weight: [n, k].
        bias: [n].
    """

    name: str
    quantizer: str
    input: Tensor
    output: Tensor
    weight: Floats
    bias: Floats
    activation: Activation = Activation.NONE
    residual: Optional[Tensor] = None

    @property
    def inputs(self) -> Tuple[Tensor, ...]:
        """Values it reads."""
        return (self.input,) if self.residual is None else (self.input, self.residual)


@dataclass(frozen=True)
class Activate:
    """An element-wise function."""

    name: str
    input: Tensor
    output: Tensor
    function: Activation

    @property
    def inputs(self) -> Tuple[Tensor, ...]:
        """Values it reads."""
        return (self.input,)


@dataclass(frozen=True)
class Add:
    """``left + right``: a residual connection."""

    name: str
    left: Tensor
    right: Tensor
    output: Tensor

    @property
    def inputs(self) -> Tuple[Tensor, ...]:
        """Values it reads."""
        return (self.left, self.right)


@dataclass(frozen=True)
class SelfAttention:
    """``softmax(Q K^T / sqrt(head_dim)) V`` per sequence and head.

    Attributes:
        name: the module whose ``:query``, ``:key`` and ``:value`` scales it takes.
    """

    name: str
    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    heads: int

    @property
    def inputs(self) -> Tuple[Tensor, ...]:
        """Values it reads."""
        return (self.query, self.key, self.value)


@dataclass(frozen=True)
class SelectFirst:
    """The first token of each sequence."""

    name: str
    input: Tensor
    output: Tensor

    @property
    def inputs(self) -> Tuple[Tensor, ...]:
        """Values it reads."""
        return (self.input,)


@dataclass(frozen=True)
class MeanPool:
    """The mean over the tokens of each sequence."""

    name: str
    input: Tensor
    output: Tensor

    @property
    def inputs(self) -> Tuple[Tensor, ...]:
        """Values it reads."""
        return (self.input,)


@dataclass(frozen=True)
class Result:
    """An output of the model."""

    name: str
    input: Tensor

    @property
    def inputs(self) -> Tuple[Tensor, ...]:
        """Values it reads."""
        return (self.input,)


Node = Union[Embedding, LayerNorm, Linear, Activate, Add, SelfAttention, SelectFirst, MeanPool, Result]


@dataclass
class Graph:
    """Nodes in execution order.

    Attributes:
        max_length: the longest sequence.
        position_offset: row of the position table that a sequence's first token takes.
    """

    max_length: int
    position_offset: int = 0
    nodes: List[Node] = field(default_factory=list)

    def consumers(self) -> Dict[str, List[Node]]:
        """Value name -> the nodes that read it, once per read."""
        readers: Dict[str, List[Node]] = {}
        for node in self.nodes:
            for tensor in node.inputs:
                readers.setdefault(tensor.name, []).append(node)
        return readers
