"""The ONNX graph of a model: tracing, verification, quantization."""
