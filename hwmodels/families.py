"""Import every family that ships with the package, which registers it."""

from hwmodels import microcontroller, roofline

__all__ = ["microcontroller", "roofline"]
