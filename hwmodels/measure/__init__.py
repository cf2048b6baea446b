"""Measure kernels and networks of this machine through ONNX Runtime."""
