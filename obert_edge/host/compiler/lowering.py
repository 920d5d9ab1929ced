"""What a node has at hand while it is lowered: scales, who reads which value in which form, the ops so far.

A value of the float graph becomes up to three kinds of values of the lowered one: float32; 8 bits with
quantization parameters known at build time, once for every different set of them; and 8 bits with parameters
that the device finds per token.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Dict, List, Optional, Set, Tuple, Type, Union

import numpy as np

from obert_edge.bundle import program
from obert_edge.bundle.program import DType, Op
from obert_edge.host.checkpoints.scales import QuantParams, Scales
from obert_edge.host.compiler.lowered import LoweredGraph, LoweredOp
from obert_edge.host.compiler.values import Tensor, Value


class Unscaled(enum.Enum):
    """A form without quantization parameters that are known at build time."""

    FLOAT = "float32"
    PER_TOKEN = "8 bits, with a scale and zero point per token, found on the device"


#: In which form a node reads a value.
Form = Union[QuantParams, Unscaled]
#: A value that a node reads, and in which form.
Read = Tuple[Tensor, Form]


class Lowering:
    """The lowered graph while it grows.

    Args:
        max_length: the longest sequence, in tokens.
        scales: the quantization parameters of every quantizer of the graph.
        reads: what all nodes read, in execution order.
    """

    def __init__(self, max_length: int, scales: Scales, reads: Iterable[Read]) -> None:
        self.graph = LoweredGraph(max_length)
        self.scales = scales
        self._forms: Dict[str, List[Form]] = {}  # value -> the 8-bit forms its readers want, each once
        self._read_as_float: Set[str] = set()
        for tensor, form in reads:
            if form is Unscaled.FLOAT:
                self._read_as_float.add(tensor.name)
            elif form not in self._forms.setdefault(tensor.name, []):
                self._forms[tensor.name].append(form)

    # ---- the values that stand for a tensor

    def as_float(self, tensor: Tensor) -> Value:
        """The float32 value."""
        return Value(tensor.name, DType.F32, tensor.domain, tensor.channels)

    def as_eight_bit(self, tensor: Tensor, form: Form) -> Value:
        """The 8-bit value of a form that some node reads."""
        dtype = form.dtype if isinstance(form, QuantParams) else DType.U8
        index = self._forms[tensor.name].index(form)
        return Value(f"{tensor.name}#{index}", dtype, tensor.domain, tensor.channels)

    def token_params(self, tensor: Tensor) -> Value:
        """Scale and zero point of each token, which the device finds: float32, two channels."""
        return Value(f"{tensor.name}#params", DType.F32, tensor.domain, 2)

    # ---- what a node may write at once

    def first_params(self, tensor: Tensor) -> Optional[QuantParams]:
        """The quantization parameters that the first reader wants of those that want any; None: none does."""
        forms = self._forms.get(tensor.name, [])
        return next((form for form in forms if isinstance(form, QuantParams)), None)

    def only_params(self, tensor: Tensor) -> Optional[QuantParams]:
        """The quantization parameters that all readers want; None: they differ, or one reads another form.

        A node need not write the float value of such a tensor.
        """
        if tensor.name in self._read_as_float or len(self._forms.get(tensor.name, [])) != 1:
            return None
        return self.first_params(tensor)

    # ---- the ops

    def emit(self, op_type: Type[Op], name: str, *, overwrites: str = "", **fields: Any) -> None:
        """Append an op.

        Args:
            op_type: the kind of op.
            name: the node's name, for messages.
            overwrites: see :class:`LoweredOp`.
            fields: by name, activations (:class:`Value`), constants (numpy arrays) and numbers.
        """
        values = {key: field for key, field in fields.items() if isinstance(field, Value)}
        arrays = {key: field for key, field in fields.items() if isinstance(field, np.ndarray)}
        numbers = {key: field for key, field in fields.items() if isinstance(field, (int, float))}
        self.graph.ops.append(LoweredOp(op_type, name, values, arrays, numbers, overwrites))

    def quantize(self, tensor: Tensor, written: Optional[QuantParams] = None) -> None:
        """Append an op for every 8-bit form of a float value that its readers want.

        Args:
            tensor: the value, which has been written in float32.
            written: the form that the node which made it has written as well; None: no form.
        """
        for form in self._forms.get(tensor.name, []):
            if isinstance(form, QuantParams):
                if form != written:
                    self._quantize_static(tensor, form)
            else:
                self._quantize_per_token(tensor, form)

    def _quantize_static(self, tensor: Tensor, params: QuantParams) -> None:
        self.emit(
            program.Quantize,
            f"{tensor.name}.quantize",
            input=self.as_float(tensor),
            output=self.as_eight_bit(tensor, params),
            channels=tensor.channels,
            zero_point=params.zero_point,
            inv_scale=params.inv_scale,
        )

    def _quantize_per_token(self, tensor: Tensor, form: Form) -> None:
        self.emit(
            program.QuantizeDynamic,
            f"{tensor.name}.quantize",
            input=self.as_float(tensor),
            output=self.as_eight_bit(tensor, form),
            params=self.token_params(tensor),
            channels=tensor.channels,
        )
