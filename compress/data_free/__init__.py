"""Quantization without any data: images made from the float network, for networks that still have their batch norms."""

from compress.data_free.images import GeneratedImages, ImageGeneration, generate
from compress.data_free.preparation import PEAK_RANGES, prepare_data_free

__all__ = ["PEAK_RANGES", "GeneratedImages", "ImageGeneration", "generate", "prepare_data_free"]
