"""``build --tflite``: the model dense, INT8 on the bundle's own grids, for programs that speak LiteRT."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Dict, Sequence

import numpy as np

from obert_edge.bundle.cases import Case
from obert_edge.bundle.container import Bundle
from obert_edge.errors import UnsupportedDeviceError
from obert_edge.runtime.baselines.dense import read_dense_model
from obert_edge.runtime.baselines.litert_graph import observe_grids, write_tflite
from obert_edge.runtime.tflite import CASE, interpret

#: Tokens of the one sequence a file takes, unless the model takes fewer.
SEQUENCE_LENGTH = 128


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
    try:
        import ai_edge_litert.schema_py_generated  # noqa: F401
    except ImportError as error:
        raise UnsupportedDeviceError(
            f"writing a .tflite needs ai-edge-litert, which cannot be imported: {error}",
            hint="run `pip install ai-edge-litert`, or build without --tflite",
        ) from error
    model = read_dense_model(bundle)
    with Bundle.open(bundle) as opened:
        cases = opened.cases
        length = min(sequence_length, opened.manifest.model.max_length)
        pad = opened.manifest.model.pad_id
    grids = observe_grids(model, cases)
    arrays = _inputs(cases, length, pad)
    with tempfile.TemporaryDirectory(prefix="obert-edge-tflite-") as folder:
        plain = Path(folder) / "model.tflite"
        write_tflite(model, plain, batch_size=1, sequence_length=length, grids=grids)
        results = interpret(plain, 1)(arrays["ids"], arrays["mask"], arrays["types"])
    arrays.update({f"output_{number}": result for number, result in enumerate(results)})
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_tflite(
        model, output, batch_size=1, sequence_length=length, grids=grids, metadata={CASE: content.getvalue()}
    )
    return output


def _inputs(cases: Sequence[Case], length: int, pad: int) -> Dict[str, np.ndarray]:
    """The longest embedded sequence that fits, padded."""
    sequences = [
        (case.ids[begin:end], case.token_types[begin:end])
        for case in cases
        for begin, end in zip(case.starts[:-1], case.starts[1:])
        if end - begin <= length
    ]
    ids, types = max(sequences, key=lambda sequence: len(sequence[0]))
    arrays = {
        "ids": np.full((1, length), pad, np.int32),
        "mask": np.zeros((1, length), np.int32),
        "types": np.zeros((1, length), np.int32),
    }
    arrays["ids"][0, : len(ids)], arrays["types"][0, : len(ids)] = ids, types
    arrays["mask"][0, : len(ids)] = 1
    return arrays
