"""OpenVINO's CPU plugin as a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, List

import numpy as np

from obert_edge.bundle.container import Bundle
from obert_edge.device.bench.baselines.base import Baseline, Run, check_length
from obert_edge.device.export.dense import read_dense_model
from obert_edge.device.export.openvino_graph import write_openvino
from obert_edge.device.export.static_qparams import observe_qparams


class OpenVinoFp32(Baseline):
    """The dense model in float32."""

    name = "openvino-fp32"
    engine = ("openvino", "openvino")
    converter = ("openvino", "openvino")
    int8: ClassVar[bool] = False

    def prepare(self, bundle: Path, workdir: Path, *, batch_size: int, sequence_length: int) -> Path:
        """Write ``model.xml`` for one shape."""
        self.require(self.converter)
        model = read_dense_model(bundle)
        check_length(sequence_length, model.max_positions)
        qparams = None
        if self.int8:
            with Bundle.open(bundle) as opened:
                qparams = observe_qparams(model, opened.cases)
        folder = workdir / self.name
        write_openvino(
            model,
            folder,
            batch_size=batch_size,
            sequence_length=sequence_length,
            qparams=qparams,
        )
        return folder

    def load(self, artifact: Path, threads: int) -> Run:
        """Compile for the CPU with one stream of ``threads`` threads, tuned for latency."""
        self.require(self.engine)
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Not bfloat16 where the CPU has it: the other baselines compute in float32.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = openvino.Core().compile_model(str(artifact / "model.xml"), "CPU", settings)
        request = compiled.create_infer_request()
        outputs = compiled.outputs

        def run(ids: Any, mask: Any, types: Any) -> List[np.ndarray]:
            found = request.infer([np.asarray(value, np.int64) for value in (ids, mask, types)])
            return [found[output] for output in outputs]

        return run


class OpenVinoInt8(OpenVinoFp32):
    """The same with every linear in static INT8."""

    name = "openvino-int8"
    int8 = True
