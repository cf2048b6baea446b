"""Compressed networks in formats that other runtimes read."""

from compress.export.onnx_qdq import export_onnx, onnx_bytes

__all__ = ["export_onnx", "onnx_bytes"]
