"""Import every family that ships with the package, which registers it."""

from hwmodels import (
    bitfusion,
    bitserial,
    dataflow,
    lookup,
    microcontroller,
    parameter_cliff,
    predictor,
    roofline,
    systolic,
)

__all__ = [
    "bitfusion",
    "bitserial",
    "dataflow",
    "lookup",
    "microcontroller",
    "parameter_cliff",
    "predictor",
    "roofline",
    "systolic",
]
