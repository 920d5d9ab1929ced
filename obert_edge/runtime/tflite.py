"""Loading a ``.tflite`` that ``build --tflite`` wrote, with a check that the runtime computes it rightly.

tflite-runtime 2.14 gives wrong numbers for some models without any error, so the file carries a case: inputs
and the outputs LiteRT gave where it was built. It is read by hand: neither runtime has a reader for it.
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import numpy as np

from obert_edge.errors import BundleError, UnsupportedDeviceError, UsageError, VerificationError
from obert_edge.runtime import machine

#: Name of the model's metadata with the case: an ``.npz`` of ``ids``, ``mask``, ``types``, ``output_0``...
CASE = "obert_edge.case"
#: Largest |found - expected| / |expected|, Euclidean: 8-bit rounding differs between CPUs by far less.
TOLERANCE = 0.2

#: Field numbers of tensorflow/lite/schema/schema.fbs.
_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA = 0

#: ``run(ids, mask, types)``, integers [1, sequence] each, to the model's results.
Run = Callable[[Any, Any, Any], List[np.ndarray]]


def load_tflite(path: Union[str, Path], threads: Optional[int] = None) -> Run:
    """Load a ``.tflite``, run its case, and return what runs it.

    Args:
        path: the file.
        threads: of LiteRT; ``None``: as many as this process may use.

    Returns:
        A function of token ids, mask and token types, int32 ``[1, sequence]`` (the length it was built for),
        to float32 results. Not to be called from two threads at once.

    Raises:
        UnsupportedDeviceError: neither ai-edge-litert nor tflite-runtime is there, or they cannot run it.
        BundleError: the file carries no case.
        VerificationError: the runtime gives other results than the case holds.
    """
    path = Path(path)
    case = read_case(path)
    run = interpret(path, machine.available_threads() if threads is None else threads)
    found = run(case["ids"], case["mask"], case["types"])
    expected = [case[f"output_{number}"] for number in range(len(found))]
    error = max(_relative_error(a, b) for a, b in zip(found, expected))
    if not error <= TOLERANCE:
        raise VerificationError(
            f"{path} gives other results here than where it was built: off by {100 * error:.0f} %",
            hint="use ai-edge-litert in place of tflite-runtime, or run the bundle: `python3 model.oeb run`",
        )
    return run


def interpret(path: Path, threads: int) -> Run:
    """Load a ``.tflite`` of ours without a check.

    Raises:
        UnsupportedDeviceError: there is no runtime, or it cannot run the file.
    """
    interpreter_class = _interpreter_class()
    try:
        interpreter = interpreter_class(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UnsupportedDeviceError(
            f"{path} cannot be loaded by {interpreter_class.__module__}: {str(error).splitlines()[0]}",
            hint="use a newer ai-edge-litert, or run the bundle: `python3 model.oeb run`",
        ) from error
    inputs = [detail["index"] for detail in interpreter.get_input_details()]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run(ids: Any, mask: Any, types: Any) -> List[np.ndarray]:
        for index, value in zip(inputs, (ids, mask, types)):
            interpreter.set_tensor(index, np.asarray(value, np.int32))
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


def read_case(path: Path) -> Dict[str, np.ndarray]:
    """The case a ``.tflite`` carries.

    Raises:
        UsageError: there is no such file.
        BundleError: it is no ``.tflite`` with a case.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="check the path") from error
    try:
        content = _metadata(data, CASE.encode())
        if content is not None:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except (struct.error, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"{path} is damaged, or no .tflite: {error}", hint="copy or build it again"
        ) from error
    raise BundleError(
        f"{path} carries no case to check a runtime with",
        hint="give a file that `obert-edge build --tflite` wrote",
    )


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter
    except ImportError:
        pass
    try:
        from tflite_runtime.interpreter import Interpreter as OldInterpreter  # type: ignore[import-not-found]

        return OldInterpreter
    except ImportError as error:
        raise UnsupportedDeviceError(
            f"neither ai-edge-litert nor tflite-runtime can be imported: {error}",
            hint="run `pip install ai-edge-litert` (64-bit), or run the bundle: `python3 model.oeb run`",
        ) from error


def _relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(expected)), 1e-30))


def _metadata(data: bytes, name: bytes) -> Optional[bytes]:
    """The content of a model's metadata entry, by the rules of flatbuffers: offsets to vectors and tables."""
    if data[4:8] != b"TFL3":
        raise ValueError("it does not begin as a .tflite")
    model = _follow(data, 0)
    buffers, _ = _vector(data, _field(data, model, _MODEL_BUFFERS))
    entries, count = _vector(data, _field(data, model, _MODEL_METADATA))
    for number in range(count):
        entry = _follow(data, entries + 4 * number)
        begin, length = _vector(data, _field(data, entry, _METADATA_NAME))
        if data[begin : begin + length] != name:
            continue
        place = _field(data, entry, _METADATA_BUFFER)
        index = struct.unpack_from("<I", data, place)[0] if place else 0
        begin, length = _vector(data, _field(data, _follow(data, buffers + 4 * index), _BUFFER_DATA))
        return data[begin : begin + length]
    return None


def _follow(data: bytes, position: int) -> int:
    offset: int = struct.unpack_from("<I", data, position)[0]
    return position + offset


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a table lies; 0: it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset: int = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _vector(data: bytes, field: int) -> Tuple[int, int]:
    """First element and length of the vector (or string) a field points to; nothing where it is absent."""
    if not field:
        return 0, 0
    start = _follow(data, field)
    return start + 4, struct.unpack_from("<I", data, start)[0]
