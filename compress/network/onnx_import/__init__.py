"""ONNX files become networks."""

from compress.network.onnx_import.importer import import_onnx

__all__ = ["import_onnx"]
