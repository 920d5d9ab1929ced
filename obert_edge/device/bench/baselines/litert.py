"""LiteRT (TensorFlow Lite) with XNNPACK as a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, List

import numpy as np

from obert_edge.bundle.container import Bundle
from obert_edge.device.bench.baselines.base import Baseline, Run, check_length
from obert_edge.device.export.dense import read_dense_model
from obert_edge.device.export.litert_graph import write_tflite
from obert_edge.device.export.static_qparams import observe_qparams


class LiteRtFp32(Baseline):
    """The dense model in float32."""

    name = "litert-fp32"
    engine = ("ai_edge_litert.interpreter", "ai-edge-litert")
    converter = ("ai_edge_litert.schema_py_generated", "ai-edge-litert")
    int8: ClassVar[bool] = False

    def prepare(self, bundle: Path, workdir: Path, *, batch_size: int, sequence_length: int) -> Path:
        """Write ``model.tflite`` for one shape."""
        self.require(self.converter)
        model = read_dense_model(bundle)
        check_length(sequence_length, model.max_positions)
        qparams = None
        if self.int8:
            with Bundle.open(bundle) as opened:
                qparams = observe_qparams(model, opened.cases)
        folder = workdir / self.name
        write_tflite(
            model,
            folder / "model.tflite",
            batch_size=batch_size,
            sequence_length=sequence_length,
            qparams=qparams,
        )
        return folder

    def load(self, artifact: Path, threads: int) -> Run:
        """Allocate an interpreter; XNNPACK packs the weights now."""
        self.require(self.engine)
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(artifact / "model.tflite"), num_threads=threads)
        interpreter.allocate_tensors()
        inputs = [detail["index"] for detail in interpreter.get_input_details()]
        outputs = [detail["index"] for detail in interpreter.get_output_details()]

        def run(ids: Any, mask: Any, types: Any) -> List[np.ndarray]:
            for index, value in zip(inputs, (ids, mask, types)):
                interpreter.set_tensor(index, np.asarray(value, np.int32))
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in outputs]

        return run


class LiteRtInt8(LiteRtFp32):
    """The same with every linear in static INT8."""

    name = "litert-int8"
    int8 = True
