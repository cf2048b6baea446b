"""What a person wants to see of a profile: its roofline, and how far its prices were from measurements."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hwmodels.bitfusion import BitFusionParameters
from hwmodels.microcontroller import MicrocontrollerParameters
from hwmodels.parameter_cliff import CliffParameters
from hwmodels.profile import EXACT, FIGURES, NOT_VALIDATED, Profile
from hwmodels.quantity import value_of
from hwmodels.rates import Rate
from hwmodels.roofline import RooflineParameters
from hwmodels.systolic import SystolicParameters

POINTS = 25
LEAST_INTENSITY, MOST_INTENSITY = 0.1, 1000.0  # MACs per byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """One line of a roofline plot: the rate that a kernel of so many MACs per byte can reach."""

    label: str
    peak_gmac_per_s: float
    gb_per_s: float
    ridge_macs_per_byte: float  # where memory stops to be the limit
    macs_per_byte: tuple[float, ...]
    gmac_per_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRow:
    """What measurements said of a figure, for one kind of networks."""

    figure: str
    networks_of: str  # "float", "integer" or "any"
    expected_error: str
    mape_percent: float | None
    within_10_percent: float | None
    spearman: float | None
    networks: int
    method: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """Roofs and validation of a device. ``roofs`` is empty where a family has no single rate."""

    roofs: tuple[Roof, ...]
    validation: tuple[ValidationRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def device_view(profile: Profile) -> DeviceView:
    """Return what is worth showing of a profile."""
    return DeviceView(roofs=tuple(_roofs(profile)), validation=tuple(_validation(profile)))


def _roofs(profile: Profile) -> Iterable[Roof]:
    """Yield a roof for each rate; bandwidth is that of the memory that weights come from."""
    model, clock = profile.model, profile.clock_ghz.value
    if isinstance(model, RooflineParameters):
        cores = 1 + (model.threads.value - 1) * value_of(model.thread_scaling, 1.0)
        yield from _rated(model.rates, clock * cores, model.dram_gb_per_s.value)
    elif isinstance(model, CliffParameters):
        yield from _rated(model.rates, clock, model.onchip_gb_per_s.value)
    elif isinstance(model, MicrocontrollerParameters) and model.cycles_per_weight_byte.value > 0:
        yield from _rated(model.rates, clock, clock / model.cycles_per_weight_byte.value)
    elif isinstance(model, SystolicParameters):
        peak = model.rows.value * model.columns.value * model.arrays.value * clock
        yield _roof(f"{model.operand_bits.value:g}-bit {model.arithmetic}", peak, model.dram_gb_per_s.value)
    elif isinstance(model, BitFusionParameters):
        units = model.rows.value * model.columns.value * clock
        for bits in (8, 4, 2):
            products = (8 // bits) ** 2
            yield _roof(f"{bits}×{bits}-bit integer", units * products, model.dram_bits_per_cycle.value * clock / 8)


def _rated(rates: Iterable[Rate], cycles_per_ns: float, bandwidth: float) -> Iterable[Roof]:
    for rate in rates:
        per_cycle = value_of(rate.macs_per_cycle_core)
        peak = rate.gmac_per_s.value if rate.gmac_per_s is not None else per_cycle * cycles_per_ns
        yield _roof(f"{rate.weight_bits}×{rate.activation_bits}-bit {rate.arithmetic}", peak, bandwidth)


def _roof(label: str, peak: float, bandwidth: float) -> Roof:
    intensity = np.geomspace(LEAST_INTENSITY, MOST_INTENSITY, POINTS)
    reached = np.minimum(peak, intensity * bandwidth)
    return Roof(
        label=label,
        peak_gmac_per_s=_short(peak),
        gb_per_s=_short(bandwidth),
        ridge_macs_per_byte=_short(peak / bandwidth),
        macs_per_byte=tuple(_short(value) for value in intensity),
        gmac_per_s=tuple(_short(value) for value in reached),
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _validation(profile: Profile) -> Sequence[ValidationRow]:
    rows = []
    for figure in FIGURES:
        entries = [entry for entry in profile.validation if entry.figure == figure]
        rows += [
            ValidationRow(
                figure=figure,
                networks_of=entry.applies_to,
                expected_error=entry.text(),
                mape_percent=entry.mape_percent,
                within_10_percent=entry.within_10_percent,
                spearman=entry.spearman,
                networks=entry.networks,
                method=entry.method,
                source=entry.source,
            )
            for entry in entries
        ]
        if not entries:
            exact = figure == "model_bytes"
            rows.append(
                ValidationRow(
                    figure=figure,
                    networks_of="any",
                    expected_error=EXACT if exact else NOT_VALIDATED,
                    mape_percent=None,
                    within_10_percent=None,
                    spearman=None,
                    networks=0,
                    method="arithmetic" if exact else "",
                    source="",
                )
            )
    return rows
