"""The graph of a bundle for other runtimes: ONNX, OpenVINO and TFLite."""
