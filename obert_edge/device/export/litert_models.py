"""``build --tflite``: the model for programs that speak LiteRT, in two files.

Dense: LiteRT's own ops, INT8 with the bundle's own parameters; what LiteRT can do with this model.
Encoder: the compiled graph of the bundle as one op, which our engine runs as LiteRT's external delegate.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

from obert_edge.bundle.capsule import write_capsule
from obert_edge.bundle.cases import Case
from obert_edge.bundle.container import PROGRAM, Bundle
from obert_edge.bundle.hashes import chunk_digests
from obert_edge.device.export.dense import INPUTS, read_dense_model
from obert_edge.device.export.litert_graph import write_tflite
from obert_edge.device.export.litert_runtime import CASE, DIGESTS, ENCODER_OP, interpret
from obert_edge.device.export.static_qparams import observe_qparams
from obert_edge.device.export.tflite_writer import TfliteWriter
from obert_edge.device.runtime.library import find_library, installed_library
from obert_edge.device.runtime.session import Session
from obert_edge.errors import UnsupportedDeviceError

#: Tokens of the one sequence a file is written for, unless the model takes fewer.
SEQUENCE_LENGTH = 128
#: What the name of a file of :func:`write_encoder_tflite` ends with, in place of ``.oeb``.
ENCODER_SUFFIX = ".obert-edge.tflite"


def write_dense_tflite(bundle: Path, output: Path, sequence_length: int = SEQUENCE_LENGTH) -> Path:
    """Write a bundle's model as a ``.tflite`` with a case to check other runtimes with.

    Args:
        bundle: the ``.oeb`` file; its engine need not run here.
        output: the ``.tflite`` file; written whole or not at all.
        sequence_length: tokens; cut to what the model takes.

    Returns:
        ``output``.

    Raises:
        UnsupportedDeviceError: ai-edge-litert is not installed: it has the schema, and makes the case.
        BundleError: not a bundle.
        ObertEdgeError: the output cannot be written.
    """
    _require_schema()
    model = read_dense_model(bundle)
    with Bundle.open(bundle) as opened:
        cases = opened.cases
        length = min(sequence_length, opened.manifest.model.max_length)
        pad = opened.manifest.model.pad_id
    qparams = observe_qparams(model, cases)
    arrays = _longest(cases, length, pad)
    with tempfile.TemporaryDirectory(prefix="obert-edge-tflite-") as folder:
        plain = Path(folder) / "model.tflite"
        write_tflite(model, plain, batch_size=1, sequence_length=length, qparams=qparams)
        results = interpret(plain, 1)(arrays["ids"], arrays["mask"], arrays["types"])
    arrays.update({f"output_{number}": result for number, result in enumerate(results)})
    metadata = {f"{CASE}.0": _archive(arrays)}
    write_tflite(model, output, batch_size=1, sequence_length=length, qparams=qparams, metadata=metadata)
    return output


def write_encoder_tflite(
    bundle: Path, output: Path, sequence_length: int = SEQUENCE_LENGTH, dtype: Any = np.int32
) -> Path:
    """Write a bundle's compiled graph as a ``.tflite`` with one op, for the obert-edge delegate.

    Inputs are ``input_ids``, ``attention_mask`` and ``token_type_ids``, integers ``[batch, sequence]``, of
    any size the interpreter is told (``resize_tensor_input``). Results are those of :meth:`Session.run`, bit
    for bit. The embedded cases go into the file.

    Args:
        bundle: the ``.oeb`` file; its engine need not run here.
        output: the ``.tflite`` file; written whole or not at all.
        sequence_length: tokens of the one sequence the inputs have room for at first; cut to what the model
            takes.
        dtype: of the inputs, int32 or int64.

    Returns:
        ``output``.

    Raises:
        UnsupportedDeviceError: ai-edge-litert is not installed: it has the schema.
        BundleError: not a bundle.
        UsageError: the model is too large for a ``.tflite``.
        ObertEdgeError: the output cannot be written.
    """
    _require_schema()
    with Bundle.open(bundle, "full") as opened:
        capsule = write_capsule(opened)
        manifest = opened.manifest
        cases = _run_cases(opened)
    writer = TfliteWriter(f"obert-edge encoder: {manifest.model.class_name}")
    shape = (1, min(sequence_length, manifest.model.max_length))
    inputs = [writer.tensor(shape, dtype, name=name, open_axes=(0, 1)) for name in INPUTS]
    outputs = []
    for facts in manifest.outputs:
        channels = () if facts.is_squeezed else (facts.channels,)
        axes = shape if facts.domain == "tokens" else shape[:1]
        open_axes = range(len(axes))
        outputs.append(writer.tensor((*axes, *channels), name=facts.name, open_axes=open_axes))
    writer.custom_op(ENCODER_OP, capsule, inputs, outputs)
    metadata = {f"{CASE}.{number}": _archive(case) for number, case in enumerate(cases)}
    metadata[DIGESTS] = "\n".join(chunk_digests(capsule)).encode()
    writer.write(output, inputs, outputs, metadata)
    return output


def _require_schema() -> None:
    try:
        import ai_edge_litert.schema_py_generated  # noqa: F401
    except ImportError as error:
        raise UnsupportedDeviceError(
            f"writing a .tflite needs ai-edge-litert, which cannot be imported: {error}",
            hint="run `pip install ai-edge-litert`, or build without --tflite",
        ) from error


def _run_cases(bundle: Bundle) -> List[Dict[str, np.ndarray]]:
    """The embedded cases as padded arrays, each with the results of a session."""
    # The installed engine runs a bundle for any target, as all give the same bits; else the bundle's own may.
    library = installed_library() or find_library(bundle)
    model = library.open(bytes(bundle.member(PROGRAM)), bundle.weights, threads=1)
    session = Session(bundle, library, model, threads=1)
    cases = []
    for case in bundle.cases:
        lengths = np.diff(case.starts)
        arrays = _padded(
            [
                (case.ids[begin:end], case.token_types[begin:end])
                for begin, end in zip(case.starts, case.starts[1:])
            ],
            int(lengths.max()),
            bundle.manifest.model.pad_id,
        )
        results = session.run(arrays["ids"], arrays["mask"], arrays["types"])
        arrays.update({f"output_{number}": result for number, result in enumerate(results.values())})
        cases.append(arrays)
    return cases


def _longest(cases: Sequence[Case], length: int, pad: int) -> Dict[str, np.ndarray]:
    """The longest embedded sequence that fits, padded."""
    sequences = [
        (case.ids[begin:end], case.token_types[begin:end])
        for case in cases
        for begin, end in zip(case.starts[:-1], case.starts[1:])
        if end - begin <= length
    ]
    return _padded([max(sequences, key=lambda sequence: len(sequence[0]))], length, pad)


def _padded(sequences: Sequence[Any], length: int, pad: int) -> Dict[str, np.ndarray]:
    """Sequences of (ids, token types) as arrays ``[sequences, length]``."""
    shape = (len(sequences), length)
    arrays = {
        "ids": np.full(shape, pad, np.int32),
        "mask": np.zeros(shape, np.int32),
        "types": np.zeros(shape, np.int32),
    }
    for row, (ids, types) in enumerate(sequences):
        arrays["ids"][row, : len(ids)], arrays["types"][row, : len(ids)] = ids, types
        arrays["mask"][row, : len(ids)] = 1
    return arrays


def _archive(arrays: Dict[str, np.ndarray]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()
