"""Which values the fields of a plan's numerics can have."""

from collections.abc import Mapping
from dataclasses import fields

from compress.calibration import ACTIVATION_RANGES
from compress.calibration.grid import ACTIVATION_TYPES
from compress.equalisation import EQUALISATIONS
from compress.operands import OPERAND_SCALES
from compress.placement import FUNCTION_INPUTS
from compress.plan import Numerics
from compress.quantize import ACTIVATION_SOURCES
from compress.quantizers.uniform import OPTIONS, WEIGHT_RANGES
from compress.rounding import WEIGHT_ROUNDINGS
from compress.weights import ACTIVATION_BITS
from hwmodels.errors import InputError, UnknownNameError


def checked_numerics(values: Mapping[str, str | int]) -> Numerics:
    """Return numerics with these fields, the others as usual.

    Raises:
        InputError: A field or a value is not known; names the field and what there is.
    """
    known: dict[str, tuple[str | int, ...]] = {
        **OPTIONS,
        "weight_range": WEIGHT_RANGES.names(),
        "weight_rounding": WEIGHT_ROUNDINGS,
        "equalisation": EQUALISATIONS,
        "activation_type": ACTIVATION_TYPES,
        "activation_range": ACTIVATION_RANGES.names(),
        "activation_source": ACTIVATION_SOURCES,
        "operand_scales": OPERAND_SCALES,
        "function_inputs": FUNCTION_INPUTS,
        "other_bits": tuple(ACTIVATION_BITS),
    }
    for name, value in values.items():
        if name not in known:
            names = ", ".join(field.name for field in fields(Numerics))
            raise UnknownNameError(f"numerics.{name}", f"must be one of {names}", name)
        if isinstance(value, bool) or value not in known[name]:
            raise InputError(f"numerics.{name}", f"must be one of {', '.join(map(str, known[name]))}", value)
    return Numerics(**values)  # type: ignore[arg-type]
