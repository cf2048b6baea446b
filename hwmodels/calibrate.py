"""Fit a profile to measured networks, and say how far it is from networks that it did not see.

The fit moves a profile's own numbers (efficiency per class, cost per byte, per kernel) so that prices meet measured
latencies, and holds them near where they were: a number that the measurements say nothing about stays. Six networks
are already useful, because one common factor on the speed is nearly free and the rest is drawn to the prior.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from hwmodels.errors import InputError
from hwmodels.estimate import Pricer
from hwmodels.microcontroller import MicrocontrollerParameters
from hwmodels.prepare import prepared
from hwmodels.profile import Profile, load_profile
from hwmodels.quantity import value_of
from hwmodels.rates import class_efficiency, efficiency_class, inner_channels, padded_macs, tile_factor
from hwmodels.roofline import TRANSCENDENTAL, RooflineParameters
from hwmodels.validation import ErrorSummary, summarise
from hwmodels.workload import Arithmetic, KernelKind, Workload

FloatArray = NDArray[np.float64]

CLASSES = ("winograd", "conv", "pointwise", "depthwise", "grouped", "linear")
KNOBS = (*CLASSES, "weight_cost", "activation_cost", "launch", "element", "ramp")
LAUNCH, ELEMENT, RAMP = (KNOBS.index(name) for name in ("launch", "element", "ramp"))

# How far a number may move, as the spread of its logarithm. Common speed is free beside these.
DEFAULT_SPREAD: FloatArray = np.array([0.3, 0.3, 0.3, 0.4, 0.4, 0.4, 0.5, 0.5, 0.8, 0.8, 0.5])
SPEED_SPREAD = 2.0
MEASUREMENT_SPREAD = 0.08  # what a perfect model would still miss of published latencies


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A network that was timed on the device that a profile describes, batch of one."""

    network: str
    workload: Workload
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Prior:
    """Where the logarithms of the knobs are expected before any measurement, and how sure that is."""

    mean: FloatArray
    spread: FloatArray = field(default_factory=lambda: DEFAULT_SPREAD)
    costs_fixed: bool = False  # only efficiencies move: costs were fitted to networks of another arithmetic


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A fitted profile and its error on networks left out one at a time."""

    profile: Profile
    left_out: ErrorSummary
    predictions_ms: Mapping[str, float]  # of each network when it was left out


class Design:
    """Measured networks as arrays: what each knob multiplies, kernel by kernel.

    ``additive`` devices spend compute and memory time one after the other (microcontrollers), others overlap them.
    """

    def __init__(self, profile: Profile, workloads: Sequence[Workload]) -> None:
        pricer = Pricer(profile)
        model = profile.model
        if not isinstance(model, RooflineParameters | MicrocontrollerParameters):
            raise InputError("profile.family", "must be roofline or microcontroller to be fitted", profile.family)
        self.additive = isinstance(model, MicrocontrollerParameters)
        table = pricer.model._table  # type: ignore[attr-defined]
        rows: list[tuple[float, ...]] = []
        tile = 0 if self.additive else int(value_of(model.winograd_tile))  # type: ignore[union-attr]
        starts = []
        for workload in workloads:
            launched = prepared(workload, profile)
            starts.append(len(rows))
            elements, sizes = pricer.tensors(launched)
            for kernel in launched.kernels:
                demand = pricer.demand(kernel, elements, sizes)
                peak_us, lanes, name = 0.0, 1, CLASSES[0]
                if kernel.macs:
                    name = efficiency_class(kernel)
                    options = table.options(kernel, pricer.float_bits)
                    if not table.runs(kernel, pricer.float_bits):
                        raise InputError(kernel.name, "no rate of the profile runs it", str(kernel.arithmetic))
                    peak_us, lanes = min(
                        (padded_macs(kernel, option.lanes) * option.peak_us_per_mac, option.lanes) for option in options
                    )
                    if name == "winograd":
                        peak_us *= tile_factor(demand, kernel, tile)
                depthwise = kernel.kind is KernelKind.DEPTHWISE or not kernel.macs
                moved = demand.output_elements if self.additive else demand.input_bytes + demand.output_bytes
                rows.append(
                    (
                        CLASSES.index("linear" if name == "matmul" else name),
                        peak_us,
                        demand.weight_bytes,
                        moved,
                        0.0 if depthwise else 1.0 / inner_channels(kernel, lanes),
                        demand.output_elements if kernel.op in TRANSCENDENTAL else 0.0,
                    )
                )
        data = np.array(rows)
        self._class = data[:, 0].astype(int)
        self._peak_us, self._weight_bytes, self._moved, self._inverse_channels, self._transcendental = data[:, 1:].T
        self._starts = np.array(starts)

    @classmethod
    def join(cls, designs: Sequence["Design"]) -> "Design":
        """Return the networks of several designs of one profile as one."""
        joined = object.__new__(cls)
        joined.additive = designs[0].additive
        for name in ("_class", "_peak_us", "_weight_bytes", "_moved", "_inverse_channels", "_transcendental"):
            setattr(joined, name, np.concatenate([getattr(design, name) for design in designs]))
        offsets = np.cumsum([0, *(len(design._class) for design in designs[:-1])])
        joined._starts = np.concatenate(
            [design._starts + offset for design, offset in zip(designs, offsets, strict=True)]
        )
        return joined

    def latency_us(self, knobs: FloatArray) -> FloatArray:
        """Return the latency of every network."""
        # knobs: one logarithm for each of KNOBS; arrays of kernels: (kernels,)
        compute = self._peak_us * np.exp(-knobs[self._class]) * (1 + np.exp(knobs[RAMP]) * self._inverse_channels)
        weights = self._weight_bytes * np.exp(knobs[6])
        moved = self._moved * np.exp(knobs[7]) + self._transcendental * np.exp(knobs[ELEMENT])
        busy = compute + weights + moved if self.additive else np.maximum(compute, weights + moved)
        total: FloatArray = np.add.reduceat(busy + np.exp(knobs[LAUNCH]), self._starts)
        return total


def knobs_of(profile: Profile, arithmetic: Arithmetic) -> FloatArray:
    """Return the logarithms of a profile's fittable numbers for networks of one arithmetic, caches left out."""
    model = profile.model
    if isinstance(model, RooflineParameters):
        weight_us = 1 / (model.dram_gb_per_s.value * 1e3)
        other = model.activation_gb_per_s
        moved_us = weight_us if other is None else 1 / (other.value * 1e3)
        launch_us = model.launch_us.value
        ramp = value_of(model.ramp_channels)
        element_us = value_of(model.element_ns) / 1e3
    elif isinstance(model, MicrocontrollerParameters):
        cycles_per_us = profile.clock_ghz.value * 1e3
        weight_us = model.cycles_per_weight_byte.value / cycles_per_us
        moved_us = model.cycles_per_element.value / cycles_per_us
        launch_us, ramp, element_us = model.cycles_per_kernel.value / cycles_per_us, 0.0, 0.0
    else:
        raise InputError("profile.family", "must be roofline or microcontroller to be fitted", profile.family)
    efficiency = next(
        (rate.efficiency for rate in model.rates if rate.arithmetic is arithmetic and rate.efficiency), model.efficiency
    )
    reached = [class_efficiency(efficiency, name) for name in CLASSES]
    return np.log(np.maximum([*reached, weight_us, moved_us, launch_us, element_us, ramp], 1e-9))


def fit_knobs(design: Design, latency_ms: FloatArray, prior: Prior) -> FloatArray:
    """Return the knobs that meet the measurements best, drawn to the prior."""
    target = np.log(latency_ms * 1e3)
    # One common slowness lowers efficiencies and raises costs; the ramp is a number of channels and stays.
    common = SPEED_SPREAD * np.array([-1.0] * len(CLASSES) + [1.0, 1.0, 1.0, 1.0, 0.0])
    spread = prior.spread
    if prior.costs_fixed:
        efficiencies = np.arange(len(KNOBS)) < len(CLASSES)
        common, spread = np.where(efficiencies, common, 0.0), np.where(efficiencies, spread, 0.0)

    def knobs(z: FloatArray) -> FloatArray:
        moved: FloatArray = prior.mean + common * z[0] + spread * z[1:]
        return moved

    def residual(z: FloatArray) -> FloatArray:
        miss = (np.log(design.latency_us(knobs(z))) - target) / MEASUREMENT_SPREAD
        return np.concatenate([miss, z])

    # soft_l1 would also soften the prior; outliers are few and the median error is what counts.
    solution = least_squares(residual, np.zeros(len(KNOBS) + 1), max_nfev=40, xtol=1e-4, ftol=1e-4)
    return knobs(solution.x)


def learn_prior(groups: Sequence[tuple[Design, FloatArray]], start: Prior, *, rounds: int = 2) -> Prior:
    """Return what devices under one runtime have in common: median and spread of their fitted knobs.

    Speeds differ between devices and are taken out: efficiencies and costs are compared relative to the mean of the
    dense classes.
    """
    prior = start
    for _ in range(rounds):
        fitted = np.array([fit_knobs(design, latency_ms, prior) for design, latency_ms in groups])
        speed = fitted[:, :3].mean(axis=1, keepdims=True)
        sign = np.array([1.0] * len(CLASSES) + [-1.0, -1.0, -1.0, -1.0, 0.0])
        relative = fitted - sign * speed
        centre = np.median(relative, axis=0) + sign * np.median(speed)
        prior = Prior(centre, np.clip(relative.std(axis=0), 0.1, 1.0))
    return prior


def calibrate(
    profile: Profile, measurements: Sequence[Measurement], *, source: str, prior: Prior | None = None
) -> Calibration:
    """Return a profile fitted to measurements, with its leave-one-network-out error.

    Args:
        profile: Where the fit starts and what it is drawn to; roofline or microcontroller.
        measurements: At least three networks, all of one arithmetic; rows of one network are left out together.
        source: Who measured, for the fitted numbers.
        prior: What is expected of the numbers; by default the profile's own with the usual spread.

    Raises:
        InputError: Fewer than three networks, mixed arithmetic, or a latency that is not positive.
    """
    names = [measurement.network for measurement in measurements]
    if len(set(names)) < 3:
        raise InputError("measurements", "must have at least three different networks", len(set(names)))
    for measurement in measurements:
        if not (np.isfinite(measurement.latency_ms) and measurement.latency_ms > 0):
            raise InputError(
                f"measurements.{measurement.network}.latency_ms", "must be positive", measurement.latency_ms
            )
    arithmetic = _common_arithmetic(measurements)
    expected = prior or Prior(knobs_of(profile, arithmetic))
    latency_ms = np.array([measurement.latency_ms for measurement in measurements])
    designs = [Design(profile, [measurement.workload]) for measurement in measurements]
    predicted_ms = leave_one_out(designs, latency_ms, names, expected)
    knobs = fit_knobs(Design.join(designs), latency_ms, expected)
    fitted = with_knobs(profile, knobs, arithmetic, source=source, costs=not expected.costs_fixed)
    return Calibration(
        profile=fitted,
        left_out=summarise(predicted_ms.tolist(), latency_ms.tolist()),
        predictions_ms=dict(zip(names, predicted_ms.tolist(), strict=True)),
    )


def leave_one_out(designs: Sequence[Design], latency_ms: FloatArray, names: Sequence[str], prior: Prior) -> FloatArray:
    """Return the latency of each network in ms as predicted by a fit to the networks of other names."""
    predicted = np.empty(len(designs))
    for left_out in dict.fromkeys(names):
        inside = [index for index, name in enumerate(names) if name != left_out]
        knobs = fit_knobs(Design.join([designs[index] for index in inside]), latency_ms[inside], prior)
        for index, name in enumerate(names):
            if name == left_out:
                predicted[index] = designs[index].latency_us(knobs)[0] / 1e3
    return predicted


def with_knobs(
    profile: Profile, knobs: FloatArray, arithmetic: Arithmetic, *, source: str, costs: bool = True
) -> Profile:
    """Return the profile with fitted numbers written into it.

    Efficiencies go to the rates of that arithmetic; costs per byte and per kernel are the model's, shared by all, and
    written with ``costs``.
    """
    values = np.exp(knobs)
    data = profile.to_json()
    model = data["model"]

    def quantity(value: float) -> dict[str, Any]:
        return {"value": float(f"{value:.4g}"), "confidence": "fitted", "source": source}

    efficiency = {name: quantity(value) for name, value in zip(CLASSES, values, strict=False)}
    for rate in model["rates"]:
        if rate["arithmetic"] == arithmetic.value:
            rate["efficiency"] = efficiency
    if not costs:
        return load_profile(data)
    if isinstance(profile.model, RooflineParameters):
        model["dram_gb_per_s"] = quantity(1e-3 / values[6])
        model["activation_gb_per_s"] = quantity(1e-3 / values[7])
        model["launch_us"] = quantity(values[LAUNCH])
        model["ramp_channels"] = quantity(values[RAMP])
        model["element_ns"] = quantity(values[ELEMENT] * 1e3)
        model["fixed_us"] = quantity(0.0)
        model["caches"] = []
    else:
        cycles_per_us = profile.clock_ghz.value * 1e3
        model["cycles_per_weight_byte"] = quantity(values[6] * cycles_per_us)
        model["cycles_per_element"] = quantity(values[7] * cycles_per_us)
        model["cycles_per_kernel"] = quantity(values[LAUNCH] * cycles_per_us)
    return load_profile(data)


def _common_arithmetic(measurements: Sequence[Measurement]) -> Arithmetic:
    found = {kernel.arithmetic for m in measurements for kernel in m.workload.kernels if kernel.macs}
    if len(found) != 1:
        raise InputError(
            "measurements", "must be of one arithmetic; fit float and integer networks apart", sorted(found)
        )
    return found.pop()
