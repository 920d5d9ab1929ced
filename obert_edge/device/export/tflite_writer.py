"""Writing a .tflite file: tensors, constants and operators of one subgraph, then a flatbuffer.

Uses the object API that ai-edge-litert ships (``schema_py_generated``), so no TensorFlow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from obert_edge.files import atomic_file

_FILE_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_ALIGNMENT = 64
#: Operator versions that differ from 1: the least that allows the types used here.
_VERSIONS = {"DEQUANTIZE": 2, "GATHER": 2, "CAST": 2}
_VERSION_FULLY_CONNECTED_INT8 = 12  # per-channel weights


class TfliteWriter:
    """Collects the tensors and operators of a graph, then writes them; a tensor is known by its number."""

    def __init__(self, description: str = "obert-edge baseline") -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema: Any = schema
        self._description = description
        self._buffers: List[Any] = [schema.BufferT()]  # buffer 0 is the empty one by convention
        self._tensors: List[Any] = []
        self._operators: List[Any] = []
        self._codes: Dict[Tuple[int, int, str], int] = {}

    def tensor(
        self,
        shape: Sequence[int],
        dtype: Any = np.float32,
        *,
        name: str = "",
        scale: Optional[Any] = None,
        zero_point: int = 0,
        buffer: int = 0,
        open_axes: Sequence[int] = (),
    ) -> int:
        """Add a tensor.

        Args:
            shape: all sizes.
            dtype: of numpy.
            name: for inputs and outputs.
            scale: float, or one per row of a per-channel weight; absent: not quantized.
            zero_point: of the quantization.
            buffer: index of its data; 0: computed.
            open_axes: axes whose size the user may change.
        """
        schema = self._schema
        tensor = schema.TensorT()
        tensor.shape = [int(size) for size in shape]
        tensor.type = getattr(schema.TensorType, np.dtype(dtype).name.upper())
        tensor.buffer = buffer
        tensor.name = name or f"tensor_{len(self._tensors)}"
        if open_axes:
            tensor.shapeSignature = [
                -1 if axis in open_axes else size for axis, size in enumerate(tensor.shape)
            ]
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            quantization = schema.QuantizationParametersT()
            quantization.scale = scales
            quantization.zeroPoint = np.full(scales.shape, zero_point, np.int64)
            quantization.quantizedDimension = 0
            tensor.quantization = quantization
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def constant(self, array: Any, *, scale: Optional[Any] = None) -> int:
        """Add a tensor with data."""
        array = np.ascontiguousarray(array)
        buffer = self._schema.BufferT()
        buffer.data = array.reshape(-1).view(np.uint8)
        self._buffers.append(buffer)
        return self.tensor(array.shape, array.dtype, scale=scale, buffer=len(self._buffers) - 1)

    def shape(self, tensor: int) -> List[int]:
        """The shape a tensor was given."""
        shape: List[int] = self._tensors[tensor].shape
        return shape

    def op(
        self,
        code: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: str = "",
        *,
        output: Optional[int] = None,
        dtype: Any = np.float32,
        **attributes: Any,
    ) -> int:
        """Add an operator with one output.

        Args:
            code: its name in ``BuiltinOperator``.
            inputs: tensors.
            shape: of the output.
            options: name of its options table without ``Options``; absent: it has none.
            output: the tensor to write; absent: a new one.
            dtype: of a new output.
            attributes: fields of the options.

        Returns:
            The output tensor.
        """
        schema = self._schema
        operator = schema.OperatorT()
        is_int8 = self._tensors[inputs[0]].type == schema.TensorType.INT8
        version = _VERSIONS.get(code, 1)
        if code == "FULLY_CONNECTED" and is_int8:
            version = _VERSION_FULLY_CONNECTED_INT8
        key = (getattr(schema.BuiltinOperator, code), version, "")
        operator.opcodeIndex = self._codes.setdefault(key, len(self._codes))
        operator.inputs = list(inputs)
        result = self.tensor(shape, dtype) if output is None else output
        operator.outputs = [result]
        if options:
            table = getattr(schema, f"{options}OptionsT")()
            for name, value in attributes.items():
                setattr(table, name, value)
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{options}Options")
            operator.builtinOptions = table
        self._operators.append(operator)
        return result

    def custom_op(
        self, name: str, options: Union[bytes, bytearray], inputs: Sequence[int], outputs: Sequence[int]
    ) -> None:
        """Add an operator of our own.

        Args:
            name: that a delegate knows.
            options: its data; they lie at a multiple of 64 of the file.
            inputs: tensors.
            outputs: tensors.
        """
        operator = self._schema.OperatorT()
        key = (self._schema.BuiltinOperator.CUSTOM, 1, name)
        operator.opcodeIndex = self._codes.setdefault(key, len(self._codes))
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        operator.customOptions = np.frombuffer(options, np.uint8)
        self._operators.append(operator)

    def write(
        self,
        path: Path,
        inputs: Sequence[int],
        outputs: Sequence[int],
        metadata: Optional[Mapping[str, bytes]] = None,
    ) -> None:
        """Write the file, whole or not at all; ``metadata`` by name travels in it."""
        schema = self._schema
        subgraph = schema.SubGraphT()
        subgraph.tensors = self._tensors
        subgraph.operators = self._operators
        subgraph.inputs, subgraph.outputs = list(inputs), list(outputs)
        subgraph.name = "main"
        model = schema.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = self._description
        model.subgraphs = [subgraph]
        model.metadata = [self._metadata(name, data) for name, data in (metadata or {}).items()]
        model.buffers = self._buffers
        model.operatorCodes = [self._code(*key) for key in self._codes]
        parts = [buffer.data for buffer in self._buffers] + [op.customOptions for op in self._operators]
        builder = _aligning_builder(sum(len(part) for part in parts if part is not None) + (1 << 20))
        builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
        with atomic_file(path) as temporary:
            temporary.write_bytes(builder.Output())

    def _metadata(self, name: str, data: bytes) -> Any:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        self._buffers.append(buffer)
        entry = self._schema.MetadataT()
        entry.name, entry.buffer = name, len(self._buffers) - 1
        return entry

    def _code(self, builtin: int, version: int, custom: str) -> Any:
        code = self._schema.OperatorCodeT()
        code.customCode = custom or None
        code.builtinCode = builtin
        code.deprecatedBuiltinCode = min(builtin, 127)  # old readers look here; 127: see the new field
        code.version = version
        return code


def _aligning_builder(size: int) -> Any:
    """A builder of flatbuffers that starts large arrays at a multiple of 64 of the file, to be mapped."""
    import flatbuffers  # type: ignore[import-untyped]

    class AligningBuilder(flatbuffers.Builder):  # type: ignore[misc]
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803
            large = elemSize * numElems >= _ALIGNMENT
            return super().StartVector(elemSize, numElems, _ALIGNMENT if large else alignment)

    return AligningBuilder(size)
