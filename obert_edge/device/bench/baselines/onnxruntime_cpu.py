"""ONNX Runtime's CPU provider as a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from obert_edge.device.bench.baselines.base import Baseline, Run, check_length
from obert_edge.device.export.dense import INPUTS, read_dense_model
from obert_edge.device.export.onnx_graph import write_onnx


class OnnxRuntimeFp32(Baseline):
    """The dense model in float32, with every graph optimization ONNX Runtime has."""

    name = "onnxruntime-fp32"
    engine = ("onnxruntime", "onnxruntime")
    converter = ("onnx", "onnx")
    int8: ClassVar[bool] = False

    def prepare(self, bundle: Path, workdir: Path, *, batch_size: int, sequence_length: int) -> Path:
        """Write ``model.onnx``; shapes stay dynamic."""
        self.require(self.converter)
        model = read_dense_model(bundle)
        check_length(sequence_length, model.max_positions)
        folder = workdir / self.name
        write_onnx(model, folder, int8=self.int8)
        return folder

    def load(self, artifact: Path, threads: int) -> Run:
        """Start a session with ``threads`` threads inside an op and one op at a time."""
        self.require(self.engine)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(artifact / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

        def run(ids: Any, mask: Any, types: Any) -> Any:
            feeds = {name: np.asarray(value, np.int64) for name, value in zip(INPUTS, (ids, mask, types))}
            return session.run(None, feeds)

        return run


class OnnxRuntimeInt8(OnnxRuntimeFp32):
    """The same with INT8 weights per output channel and dynamically quantized activations."""

    name = "onnxruntime-int8"
    int8 = True
