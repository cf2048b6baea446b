"""The grid of an activation: evenly spaced values around an exact zero."""

from dataclasses import dataclass

from hwmodels.errors import InputError

ACTIVATION_TYPES = ("unsigned", "signed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationGrid:
    """Values ``(code - zero_point) * scale`` with codes in ``low``..``high``: the ``quantize`` node's attributes."""

    scale: float
    zero_point: int
    low: int
    high: int

    @classmethod
    def spanning(cls, least: float, most: float, bits: int, activation_type: str) -> "ActivationGrid":
        """Return the grid whose values reach from ``least`` (at most 0) to ``most`` (at least 0).

        Zero is exact, because padding and rectifiers produce it. ``unsigned`` codes are ``0 … 2**bits - 1``: a value
        that is never negative has zero point 0, any other one is shifted, and rounding the zero point moves the ends by
        up to half a step. ``signed`` codes are symmetric around 0 with zero point 0.
        """
        if activation_type not in ACTIVATION_TYPES:
            raise InputError(
                "numerics.activation_type", f"must be one of {', '.join(ACTIVATION_TYPES)}", activation_type
            )
        if activation_type == "signed":
            low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
            return cls(scale=_positive(max(most / high, least / low)), zero_point=0, low=low, high=high)
        high = 2**bits - 1
        scale = _positive((most - least) / high)
        return cls(scale=scale, zero_point=min(high, round(-least / scale)), low=0, high=high)

    def in_power_of_two(self) -> "ActivationGrid":
        """Return the grid with the next larger power of two as its scale, the zero point moved along."""
        scale = 2.0 ** _ceil_log2(self.scale)
        zero_point = round(self.zero_point * self.scale / scale)
        return ActivationGrid(scale=scale, zero_point=zero_point, low=self.low, high=self.high)


def _positive(scale: float) -> float:
    """Return a usable scale for a value that is always zero, too: what it is does not matter then."""
    return scale if scale > 1e-30 else 1.0


def _ceil_log2(value: float) -> int:
    exponent = 0
    while 2.0**exponent < value:
        exponent += 1
    while 2.0 ** (exponent - 1) >= value:
        exponent -= 1
    return exponent
