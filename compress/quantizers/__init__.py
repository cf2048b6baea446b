"""Weight quantizers: one file per method, found through ``QUANTIZERS``."""

from compress.quantizers import uniform as uniform  # registers itself
from compress.quantizers.base import QUANTIZERS, CodeLayout, Codes, IntegerWeight, Quantizer

__all__ = ["QUANTIZERS", "CodeLayout", "Codes", "IntegerWeight", "Quantizer"]
