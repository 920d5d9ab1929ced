"""A bundle's model for other runtimes: ONNX Runtime, OpenVINO and LiteRT.

``dense`` undoes the compiler: the program of a bundle as a dense float model. ``onnx_graph``,
``openvino_graph`` and ``litert_graph`` write that model, each in the form its runtime runs fastest;
``evaluate`` runs it in numpy.

LiteRT can also carry our engine. ``litert_models`` writes the two files of ``build --tflite``,
``litert_runtime`` loads them and our delegate on a device, and ``tflite_writer`` and ``tflite_reader`` know
the file format alone.
"""
