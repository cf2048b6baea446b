"""Multiply-accumulate rates of a processor by arithmetic, width and class of kernel."""

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from hwmodels.cost_model import Demand
from hwmodels.energy import EnergyModel
from hwmodels.quantity import Count, Part, Positive, Quantity, value_of
from hwmodels.workload import Arithmetic, Kernel, KernelKind

Bits = Annotated[int, Field(ge=1, le=64)]


class Efficiency(Part):
    """Share of the peak rate that a class of kernels reaches.

    ``winograd`` is for dense 3×3 convolutions of stride 1 and may exceed 1 where the runtime saves multiplications
    (at most 2.25 for F(2×2, 3×3), 4 for F(4×4, 3×3)); without it they count as ``conv``.
    """

    conv: Positive
    winograd: Positive | None = None
    pointwise: Positive
    depthwise: Positive
    grouped: Positive | None = None
    linear: Positive
    matmul: Positive | None = None


class Rate(Part):
    """Peak rate for operands of at most these widths: per cycle and core, or of the whole device."""

    arithmetic: Arithmetic
    weight_bits: Bits
    activation_bits: Bits
    macs_per_cycle_core: Positive | None = None
    gmac_per_s: Positive | None = None
    lanes: Count | None = None  # output channels are rounded up to a multiple
    efficiency: Efficiency | None = None  # where it differs from the model's own

    @model_validator(mode="after")
    def _one_rate(self) -> "Rate":
        if (self.macs_per_cycle_core is None) == (self.gmac_per_s is None):
            raise ValueError("give either macs_per_cycle_core or gmac_per_s")
        return self


Key = tuple[Arithmetic, int, int, int, str]  # arithmetic, weight, activation and float bits, class


class Option(NamedTuple):
    """One way in which the hardware can run a kernel."""

    us_per_mac: float
    peak_us_per_mac: float
    lanes: int
    mac_pj: float


def efficiency_class(kernel: Kernel) -> str:
    """Return the field of ``Efficiency`` that a kernel counts under."""
    kind = kernel.kind
    if kind is KernelKind.CONV:
        if kernel.groups > FEW_GROUPS:
            return "grouped"
        if kernel.kernel == (1, 1):
            return "pointwise"  # a few groups run one after the other, as dense kernels do
        return "winograd" if kernel.kernel == (3, 3) and kernel.stride == (1, 1) else "conv"
    return _NAMED.get(kind, "conv")


FEW_GROUPS = 4
_NAMED = {
    kind: kind.value for kind in (KernelKind.POINTWISE, KernelKind.DEPTHWISE, KernelKind.LINEAR, KernelKind.MATMUL)
}
_FALLBACK = {"winograd": "conv", "grouped": "depthwise", "matmul": "linear"}


def class_efficiency(efficiency: Efficiency, name: str) -> float:
    """Return the efficiency of a class, or of the class that stands in for it."""
    quantity: Quantity | None = getattr(efficiency, name)
    return quantity.value if quantity is not None else class_efficiency(efficiency, _FALLBACK[name])


class RateTable:
    """Which rates may run a kernel. Resolved once per combination of arithmetic, widths and class.

    A rate fits if its widths are at least the kernel's. Binary, shift and add arithmetic may also run on an integer
    unit, and what no integer unit takes runs in float where there is float, never faster than the integer units:
    narrow bits are never slower than wide ones, and save time only where a narrower rate exists.
    """

    def __init__(
        self,
        rates: Sequence[Rate],
        *,
        efficiency: Efficiency,
        cycles_per_us: float,
        effective_cores: float,
        energy: EnergyModel,
    ) -> None:
        self._rates = rates
        self._efficiency = efficiency
        self._cycles_per_us = cycles_per_us
        self._cores = effective_cores
        self._energy = energy
        self._runs: dict[Key, bool] = {}
        self._resolved: dict[Key, tuple[Option, ...]] = {}

    def options(self, kernel: Kernel, float_bits: int) -> tuple[Option, ...]:
        """Return the rates that fit; where none does, the slowest one, so that a refused kernel still has a price."""
        key = (kernel.arithmetic, kernel.weight_bits, kernel.activation_bits, float_bits, efficiency_class(kernel))
        found = self._resolved.get(key)
        if found is None:
            found = self._fitting(key)
            if not found:
                found = (max((self._option(rate, key) for rate in self._rates), key=lambda option: option.us_per_mac),)
            self._resolved[key] = found
        return found

    def runs(self, kernel: Kernel, float_bits: int) -> bool:
        """Return whether any rate fits."""
        key = (kernel.arithmetic, kernel.weight_bits, kernel.activation_bits, float_bits, efficiency_class(kernel))
        answer = self._runs.get(key)
        if answer is None:
            answer = self._runs[key] = bool(self._fitting(key))
        return answer

    def _fitting(self, key: Key) -> tuple[Option, ...]:
        fitting = [rate for rate in self._rates if _fits(rate, key)]
        native = [self._option(rate, key) for rate in fitting if rate.arithmetic is not Arithmetic.FLOAT]
        if native or key[0] in (Arithmetic.FLOAT, Arithmetic.WINOGRAD):
            return tuple(native) or tuple(self._option(rate, key) for rate in fitting)
        integers = [rate for rate in self._rates if rate.arithmetic is Arithmetic.INTEGER]
        slowest = max((self._option(rate, key).us_per_mac for rate in integers), default=0.0)
        unpacked = [self._option(rate, key) for rate in fitting]
        return tuple(option._replace(us_per_mac=max(option.us_per_mac, slowest)) for option in unpacked)

    def _option(self, rate: Rate, key: Key) -> Option:
        if rate.gmac_per_s is not None:
            peak = rate.gmac_per_s.value * 1e3  # MACs per µs
        else:
            peak = value_of(rate.macs_per_cycle_core) * self._cycles_per_us * self._cores
        reached = peak * class_efficiency(rate.efficiency or self._efficiency, key[-1])
        picojoule = self._energy.mac_pj(rate.arithmetic, rate.weight_bits, rate.activation_bits)
        return Option(1 / reached, 1 / peak, int(value_of(rate.lanes, 1)), picojoule)


def _fits(rate: Rate, key: Key) -> bool:
    arithmetic, weight_bits, activation_bits, float_bits, _ = key
    if rate.arithmetic is Arithmetic.FLOAT:
        return float_bits > 0 and max(rate.weight_bits, rate.activation_bits) >= float_bits
    if arithmetic in (Arithmetic.FLOAT, Arithmetic.WINOGRAD):
        return False
    wide_enough = rate.weight_bits >= weight_bits and rate.activation_bits >= activation_bits
    return wide_enough and rate.arithmetic in (arithmetic, Arithmetic.INTEGER)


def ramp_factor(kernel: Kernel, ramp_channels: float, lanes: int) -> float:
    """Return by how much short inner loops stretch a kernel's compute time."""
    if not ramp_channels or kernel.kind is KernelKind.DEPTHWISE:
        return 1.0
    return 1.0 + ramp_channels / inner_channels(kernel, lanes)


def inner_channels(kernel: Kernel, lanes: int) -> int:
    """Return the fewer of a group's input and output channels, these in whole vectors as they are padded."""
    outside = -(-(kernel.out_channels // kernel.groups) // lanes) * lanes
    return max(min(kernel.in_channels // kernel.groups, outside), 1)


def tile_factor(demand: Demand, kernel: Kernel, tile: int) -> float:
    """Return by how much Winograd's square output tiles overshoot the output's rows and columns."""
    if tile <= 1:
        return 1.0
    pixels = max(demand.output_elements // max(kernel.out_channels, 1), 1)
    side = sqrt(pixels)  # outputs are taken to be square
    return (ceil(side / tile - 1e-9) * tile / side) ** 2


def padded_macs(kernel: Kernel, lanes: int) -> float:
    """Return the MACs that a vector unit spends: output channels of a group fill whole vectors."""
    if lanes <= 1 or not kernel.out_channels:
        return kernel.macs
    # A depthwise kernel puts neighbouring channels side by side; other groups are run one after the other.
    channels = kernel.out_channels
    if kernel.groups > 1 and kernel.kind is not KernelKind.DEPTHWISE:
        channels = max(channels // kernel.groups, 1)
    return kernel.macs * (-(-channels // lanes) * lanes / channels)
