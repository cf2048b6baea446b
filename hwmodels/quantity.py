"""A number of a device profile: its value, where it comes from and how far to trust it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Confidence = Literal["measured", "fitted", "datasheet", "estimate", "recalled"]
"""``recalled``: known from a document that was not read again; ``fitted``: solved for from measurements."""


class Part(BaseModel):
    """A section of a profile. Unknown keys are refused: a misspelt one would silently change a price."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


LEAST, MOST = 1e-15, 1e15
"""No quantity of a device is further from 1 in its unit; products and quotients of such numbers stay finite."""


def _in_range(value: float) -> float:
    if value and not LEAST <= value <= MOST:
        raise ValueError(f"must be 0 or in {LEAST:g}..{MOST:g}")
    return value


class Quantity(Part):
    """One number. The unit stands in the name of the field that holds it."""

    value: Annotated[float, Field(ge=0), AfterValidator(_in_range)]
    confidence: Confidence
    source: Annotated[str, Field(min_length=1)]


def _above_zero(quantity: Quantity) -> Quantity:
    if quantity.value <= 0:
        raise ValueError("value must be greater than 0")
    return quantity


def _at_least_one(quantity: Quantity) -> Quantity:
    if quantity.value < 1:
        raise ValueError("value must be at least 1")
    return quantity


Positive = Annotated[Quantity, AfterValidator(_above_zero)]
Count = Annotated[Quantity, AfterValidator(_at_least_one)]
"""Of things that come whole: cores, lanes, rows."""


def value_of(quantity: Quantity | None, default: float = 0.0) -> float:
    """Return the number, or ``default`` where the profile leaves it out."""
    return default if quantity is None else quantity.value
