"""LiteRT's INT8 uses the quantization parameters of the bundle."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from obert_edge.bundle.container import Bundle
from obert_edge.device.bench.baselines import get_baseline
from obert_edge.device.export.dense import Dense
from obert_edge.device.export.static_qparams import observe_qparams


def prepared(sample, folder):
    return get_baseline("litert-int8").prepare(sample.bundle, folder, batch_size=1, sequence_length=8)


def quantized_tensors(folder):
    """(dtype, scales, zero points) of every quantized tensor of the file."""
    details = Interpreter(model_path=str(folder / "model.tflite")).get_tensor_details()
    found = [(detail["dtype"], detail["quantization_parameters"]) for detail in details]
    return [
        (dtype, qparams["scales"], qparams["zero_points"])
        for dtype, qparams in found
        if qparams["scales"].size
    ]


def test_static_input_parameters_and_weights_are_taken_over_unchanged(make_sample, tmp_path):
    sample = make_sample("bert")
    found = quantized_tensors(prepared(sample, tmp_path))
    linears = [op for op in sample.model.ops if isinstance(op, Dense)]
    activations = {(float(scales[0]), int(zeros[0])) for dtype, scales, zeros in found if dtype is np.int8}
    for op in linears:
        assert op.input_qparams is not None
        assert (np.float32(op.input_qparams.scale), op.input_qparams.zero_point - 128) in activations
    weights = [scales for dtype, scales, _ in found if dtype is np.int8 and len(scales) > 1]
    ffn = next(op for op in linears if op.weight_q.shape == (256, 64))
    assert any(np.array_equal(scales, ffn.weight_scale) for scales in weights)


def test_ranges_the_engine_does_not_keep_come_from_the_embedded_cases(make_sample):
    sample = make_sample("bert")
    with Bundle.open(sample.bundle) as bundle:
        qparams = observe_qparams(sample.model, bundle.cases)
    for op in sample.model.ops:
        if isinstance(op, Dense):
            output = qparams[op.output][1]
            assert op.output_qparams in (None, output)
            assert output.scale > 0
            assert 0 <= output.zero_point <= 255


def test_only_linears_are_int8(make_sample, tmp_path):
    """With more of the graph in INT8, XNNPACK falls into many partitions."""
    sample = make_sample("bert")
    folder = prepared(sample, tmp_path)
    interpreter = Interpreter(model_path=str(folder / "model.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    names = [op["op_name"] for op in interpreter._get_ops_details()]
    linears = sum(isinstance(op, Dense) for op in sample.model.ops)
    assert names.count("FULLY_CONNECTED") == names.count("DEQUANTIZE") == linears
    assert names.count("DELEGATE") <= 3
