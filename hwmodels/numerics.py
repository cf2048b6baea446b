"""What a device's runtime demands of the numbers of a quantized network, beyond their widths."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from hwmodels.errors import InputError
from hwmodels.quantity import Confidence, Part

ORDER: Mapping[str, tuple[str, ...]] = {
    "activation_type": ("unsigned", "signed"),
    "scale_format": ("float32", "power_of_two"),
    "weight_granularity": ("group", "channel", "tensor"),
    "operand_scales": ("separate", "matched"),
    "function_inputs": ("fused", "stored"),
}
"""Values of each field, the most general first: a runtime that takes one takes those behind it, too.

Symmetric signed codes are unsigned ones with the zero point in the middle, a power of two is a float32, one scale per
tensor is the same one for every channel, matched scales are scales, and what can be fused can be stored.
"""


class NumericsPolicy(Part):
    """The most general numbers that the runtime runs as integers; a field that is left out demands nothing.

    ``activation_type``: ``unsigned`` takes a zero point, ``signed`` is symmetric around zero. ``operand_scales``:
    ``matched`` if the operands of an addition must have one scale. ``function_inputs``: ``stored`` if activation
    functions other than ReLU and ReLU6 are kernels of their own. ``end_bits`` is the width that the first and the last
    layers should have, weights and what they read: what the runtime's own tools do, not a limit of the hardware.
    """

    activation_type: Literal["unsigned", "signed"] | None = None
    scale_format: Literal["float32", "power_of_two"] | None = None
    weight_granularity: Literal["group", "channel", "tensor"] | None = None
    operand_scales: Literal["separate", "matched"] | None = None
    function_inputs: Literal["fused", "stored"] | None = None
    end_bits: Annotated[int, Field(ge=2, le=8)] | None = None
    confidence: Confidence
    source: Annotated[str, Field(min_length=1)]

    def demands(self) -> dict[str, str]:
        """Return the fields of ``ORDER`` that are stated."""
        return {name: getattr(self, name) for name in ORDER if getattr(self, name) is not None}

    def refusal(self, numerics: Mapping[str, str]) -> str | None:
        """Return why the runtime cannot run these numerics as integers, or ``None``."""
        for name, demanded in self.demands().items():
            if name in numerics and not covers(name, demanded, numerics[name]):
                return f"numerics.{name} is {numerics[name]}, the runtime takes {' or '.join(_from(name, demanded))}"
        return None


def covers(field: str, demanded: str, value: str) -> bool:
    """Tell whether a runtime whose most general value is ``demanded`` runs ``value``."""
    return value in _from(field, demanded)


def common_numerics(policies: Mapping[str, NumericsPolicy | None], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of ``ORDER`` with which a network runs on every device.

    What the user wants stands if every device runs it, and is refused otherwise. Of what is left open the strictest
    that a device demands is taken, since the others run that as well.

    Args:
        policies: By device; ``None`` demands nothing.
        wanted: What the user has said, of ``ORDER``'s fields.

    Raises:
        InputError: A device does not run what the user wants.
    """
    all_demands = {device: policy.demands() for device, policy in policies.items() if policy is not None}
    found: dict[str, str] = {}
    for name, values in ORDER.items():
        demands = {device: stated[name] for device, stated in all_demands.items() if name in stated}
        if name in wanted:
            for device, demanded in demands.items():
                if not covers(name, demanded, wanted[name]):
                    rule = f"must be {' or '.join(_from(name, demanded))} on {device}"
                    raise InputError(f"numerics.{name}", rule, wanted[name])
        elif demands:
            found[name] = max(demands.values(), key=values.index)
    return found


def common_end_bits(policies: Iterable[NumericsPolicy | None]) -> int | None:
    """Return the width of the first and last layers: the widest that a device asks for, ``None`` if none does."""
    stated = [policy.end_bits for policy in policies if policy is not None and policy.end_bits is not None]
    return max(stated, default=None)


def _from(field: str, demanded: str) -> tuple[str, ...]:
    values = ORDER[field]
    return values[values.index(demanded) :]
