"""Running a ``.tflite`` that ``build --tflite`` wrote, after a check that LiteRT computes it correctly here.

There are two kinds: the dense model in LiteRT's own ops, and the compiled graph of the bundle as one op
``obert_edge.encoder``, which our engine runs as LiteRT's external delegate. tflite-runtime 2.14 gives wrong
numbers for some models without any error, so both carry cases: inputs, and the outputs they must give.
"""

from __future__ import annotations

import importlib
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import numpy as np

import obert_edge
from obert_edge.bundle.container import Bundle
from obert_edge.bundle.hashes import chunk_digests
from obert_edge.device.export.tflite_reader import TfliteReader
from obert_edge.device.runtime import machine
from obert_edge.device.runtime.library import find_library, installed_library
from obert_edge.device.runtime.native import Library
from obert_edge.errors import (
    BundleError,
    InputError,
    ObertEdgeError,
    UnsupportedDeviceError,
    UsageError,
    VerificationError,
)

#: Metadata of a model with a case, followed by ``.0``, ``.1``...: an ``.npz`` of ``ids``, ``mask``,
#: ``types``, ``output_0``...
CASE = "obert_edge.case"
#: Metadata of a model with our op: a digest per MiB of the op's options, one a line.
DIGESTS = "obert_edge.digests"
#: The op our delegate runs; ``engine/litert/delegate.cpp`` knows it by this name.
ENCODER_OP = "obert_edge.encoder"
#: The largest Euclidean |found - expected| / |expected| that a dense model may have: 8-bit rounding differs
#: between CPUs by far less. Our own op gives the same bits everywhere, so it has no tolerance.
TOLERANCE = 0.2
#: What damaged archives of arrays end in.
_DAMAGED = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
#: Packages of the runtime, the maintained one first.
_RUNTIMES = ("ai_edge_litert", "tflite_runtime")
#: What the delegate's messages begin with.
_OURS = "obert-edge: "

#: ``run(ids, mask, types)``, integers [batch, sequence] each, to the model's results.
Run = Callable[[Any, Any, Any], List[np.ndarray]]
PathLike = Union[str, Path]


def load_tflite(path: PathLike, threads: Optional[int] = None, bundle: Optional[PathLike] = None) -> Run:
    """Load a ``.tflite``, run its cases, and return what runs it.

    Args:
        path: the file.
        threads: to compute with; ``None``: as many as this process may use.
        bundle: where to find the engine for a ``*.obert-edge.tflite``; see :func:`load_delegate`.

    Returns:
        A function of token ids, mask and token types, integers ``[batch, sequence]`` (a dense model:
        ``[1, sequence]`` of the length it was built for), to float32 results. Not to be called from two
        threads at once.

    Raises:
        UnsupportedDeviceError: neither ai-edge-litert nor tflite-runtime is there, or they cannot run it.
        UsageError: there is no such file.
        BundleError: it is no ``.tflite`` with cases, or damaged.
        VerificationError: the runtime gives other results than the cases hold.
    """
    path = Path(path)
    # Read once, checked and then run: somebody may write over the file at any time.
    content = TfliteReader(path)
    cases = _cases(path, content)
    threads = machine.available_threads() if threads is None else threads
    delegates = []
    if ENCODER_OP in content.custom_ops:
        _check_digests(path, content)
        delegates.append(load_delegate(bundle, threads=threads))
    run = interpret(path, threads, delegates, content.content)
    for case in cases:
        found = run(case["ids"], case["mask"], case["types"])
        missing = [number for number in range(len(found)) if f"output_{number}" not in case]
        if missing:
            raise BundleError(f"a case of {path} holds no output {missing[0]}", hint="copy or build it again")
        expected = [case[f"output_{number}"] for number in range(len(found))]
        difference = _inexact(found, expected) if delegates else _far(found, expected)
        if difference:
            raise VerificationError(
                f"{path} gives other results here than where it was built: {difference}",
                hint="use another version of ai-edge-litert, or run the bundle: `python3 model.oeb run`",
            )
    return run


def load_delegate(
    bundle: Optional[PathLike] = None,
    *,
    threads: Optional[int] = None,
    implementation: Optional[str] = None,
) -> Any:
    """Our engine as a delegate, for ``Interpreter(model, experimental_delegates=[load_delegate()])``.

    The engine library is the delegate: the installed package's, else the one in ``bundle``, else that of the
    bundle this very code was imported from.

    Args:
        bundle: a ``model.oeb`` for this CPU.
        threads: to compute with; ``None``: the interpreter's ``num_threads``, whose default is one in LiteRT
            and all CPUs in tflite-runtime.
        implementation: name of the kernels, for instance ``"neon"``; ``None``: the best this CPU runs.

    Returns:
        The runtime's own delegate object.

    Raises:
        UnsupportedDeviceError: no engine library for this CPU, one too old, or no LiteRT.
        UsageError: an option has a value the delegate does not know.
        BundleError: ``bundle`` is none.
    """
    library = _library(bundle)
    if not library.is_delegate:
        raise UnsupportedDeviceError(
            f"the engine library {library.path} is older than the delegate",
            hint="upgrade obert-edge, or build the bundle again",
        )
    options = {"threads": threads, "implementation": implementation}
    try:
        # A library that was loaded from memory has no file any more; the loader finds it by its name.
        return _runtime().load_delegate(
            str(library.path), {key: str(value) for key, value in options.items() if value is not None}
        )
    except ValueError as error:
        reason = str(error).splitlines()[-1]
        raise UsageError(f"the delegate cannot be made: {reason}", hint="correct the option") from error


def interpret(
    path: Path, threads: int, delegates: Sequence[Any] = (), content: Optional[bytes] = None
) -> Run:
    """Load a ``.tflite`` of ours without a check.

    Args:
        path: the file.
        threads: that LiteRT computes with.
        delegates: what :func:`load_delegate` returned.
        content: the file as it was read and checked; ``None``: LiteRT maps it, so that it must not be written
            over while it is in use.

    Raises:
        UnsupportedDeviceError: there is no runtime, or it cannot run the file.
    """
    runtime = _runtime()
    try:
        model: Dict[str, Any] = {"model_path": str(path)} if content is None else {"model_content": content}
        interpreter = runtime.Interpreter(
            **model, num_threads=threads, experimental_delegates=list(delegates)
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise _explain(path, runtime, error) from error
    inputs = interpreter.get_input_details()
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    # Only our own op takes other shapes than the one the file was built for.
    is_open = any(-1 in detail["shape_signature"] for detail in inputs)
    shape = tuple(inputs[0]["shape"])

    def run(ids: Any, mask: Any, types: Any) -> List[np.ndarray]:
        nonlocal shape
        arrays = [np.asarray(value, detail["dtype"]) for value, detail in zip((ids, mask, types), inputs)]
        if not is_open:
            _check_shapes(path, arrays, shape)
        try:
            if is_open and arrays[0].shape != shape:
                for detail, array in zip(inputs, arrays):
                    interpreter.resize_tensor_input(detail["index"], array.shape)
                shape = ()  # until all of them fit
                interpreter.allocate_tensors()
                shape = arrays[0].shape
            for detail, array in zip(inputs, arrays):
                interpreter.set_tensor(detail["index"], array)
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise InputError(_reason(error), hint="correct the arrays given to the model") from error
        return [interpreter.get_tensor(index) for index in outputs]

    return run


def _check_shapes(path: Path, arrays: Sequence[np.ndarray], shape: Sequence[int]) -> None:
    """Refuse arrays of another size than a file of a fixed size takes."""
    for name, array in zip(("ids", "mask", "types"), arrays):
        if array.shape != tuple(shape):
            batch, length = map(int, shape)
            raise InputError(
                f"{name} has the shape {list(array.shape)}; {path} takes [{batch}, {length}], and no other",
                hint=f"pad or cut each sequence to {length} tokens, with a mask of 0 at the padding, and "
                f"give {batch} at a time",
            )


def read_case(path: Path) -> Dict[str, np.ndarray]:
    """The first case a ``.tflite`` carries.

    Raises:
        UsageError: there is no such file.
        BundleError: it is no ``.tflite`` with a case.
    """
    return _cases(path, TfliteReader(path))[0]


def _cases(path: Path, content: TfliteReader) -> List[Dict[str, np.ndarray]]:
    cases: List[Dict[str, np.ndarray]] = []
    try:
        while f"{CASE}.{len(cases)}" in content.metadata:
            data = io.BytesIO(content.metadata[f"{CASE}.{len(cases)}"])
            with np.load(data, allow_pickle=False) as arrays:
                cases.append(_checked_case({name: arrays[name] for name in arrays.files}))
    except _DAMAGED as error:
        raise BundleError(f"{path} is damaged: {error}", hint="copy or build it again") from error
    if not cases:
        raise BundleError(
            f"{path} carries no case to check a runtime with",
            hint="give a file that `obert-edge build --tflite` wrote",
        )
    return cases


def _checked_case(arrays: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """A case, if it has all arrays there must be.

    Raises:
        ValueError: it has not.
    """
    missing = [name for name in ("ids", "mask", "types", "output_0") if name not in arrays]
    if missing:
        raise ValueError(f"a case lacks {', '.join(missing)}")
    shape = arrays["ids"].shape
    for name in ("ids", "mask", "types"):
        if arrays[name].dtype.kind not in "iu" or arrays[name].shape != shape or len(shape) != 2:
            raise ValueError(f"{name} of a case is {arrays[name].dtype} {arrays[name].shape}")
    for name, array in arrays.items():
        if name.startswith("output_") and array.dtype != np.float32:
            raise ValueError(f"{name} of a case is {array.dtype}; expected float32")
    return arrays


def _check_digests(path: Path, content: TfliteReader) -> None:
    expected = bytes(content.metadata.get(DIGESTS, b"")).decode("ascii", "replace").split()
    if chunk_digests(content.custom_ops[ENCODER_OP]) != expected:
        raise BundleError(
            f"the compiled graph in {path} is altered: its hash is not the one beside it",
            hint="copy the file again; it was changed on the way or on the disk",
        )


def _library(bundle: Optional[PathLike]) -> Library:
    if bundle is None:
        installed = installed_library()
        if installed is not None:
            return installed
        # `sys.path` may hold a bundle, which is a ZIP: then this is the file the code came from.
        source = Path(obert_edge.__file__ or "").parent.parent
        if not source.is_file():
            raise UnsupportedDeviceError(
                f"no engine library is installed for {machine.architecture()}",
                hint="name a bundle that was built for this machine: load_delegate('model.oeb')",
            )
        bundle = source
    with Bundle.open(bundle) as opened:
        return find_library(opened)


def _runtime() -> Any:
    """The module with ``Interpreter`` and ``load_delegate``."""
    reasons = []
    for name in _RUNTIMES:
        try:
            return importlib.import_module(f"{name}.interpreter")
        except ImportError as error:
            reasons.append(str(error))
    raise UnsupportedDeviceError(
        f"neither ai-edge-litert nor tflite-runtime can be imported: {'; '.join(reasons)}",
        hint="run `pip install ai-edge-litert` (64-bit), or run the bundle: `python3 model.oeb run`",
    )


def _explain(path: Path, runtime: Any, error: Exception) -> ObertEdgeError:
    if f"custom op: {ENCODER_OP}" in str(error):
        return UnsupportedDeviceError(
            f"{path} holds an op {ENCODER_OP}, which {runtime.__name__} does not have; the obert-edge "
            "delegate was expected to run it",
            hint="pass experimental_delegates=[load_delegate()] to the interpreter, or load the file with "
            "load_tflite; both are in obert_edge.device.export.litert_runtime",
        )
    fix = "use a newer ai-edge-litert" if _OURS not in str(error) else "give the delegate what it can run"
    return UnsupportedDeviceError(
        f"{path} cannot be loaded by {runtime.__name__}: {_reason(error)}",
        hint=f"{fix}, or run the bundle: `python3 model.oeb run`",
    )


def _reason(error: Exception) -> str:
    """The runtime's own words, or the engine's among them."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    ours = [line.partition(_OURS)[2] for line in lines if _OURS in line]
    return (ours or lines)[0]


def _inexact(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> str:
    """How results differ from what they must be, bit for bit; empty when they do not."""
    for number, (ours, theirs) in enumerate(zip(found, expected)):
        if ours.shape != theirs.shape:
            return f"output {number} has shape {ours.shape}, not {theirs.shape}"
        differing = int((ours.view(np.uint32) != theirs.view(np.uint32)).sum())
        if differing:
            return f"{differing} of {ours.size} values of output {number} have other bits"
    return ""


def _far(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> str:
    """How far results are off where 8-bit rounding may differ; empty when they are close enough."""
    errors = [_relative_error(ours, theirs) for ours, theirs in zip(found, expected)]
    return "" if max(errors) <= TOLERANCE else f"off by {100 * max(errors):.0f} %"


def _relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(expected)), 1e-30))
