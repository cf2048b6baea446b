"""Kernel predictors fitted to measured kernels: one regressor per class, stored as plain numbers.

The idea of nn-Meter (Zhang et al., MobiSys 2021): a network's time is the sum of its kernels' times, each predicted
by a regressor trained on measured kernels of that class. Ours is a Gaussian process on the logarithm of the time over
logarithmic shape features, with a linear trend: it is smooth between samples and follows the trend beyond them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, log1p, sqrt
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from hwmodels.cost_model import COST_MODELS, Bytes, CostModel, Demand, KernelPrice
from hwmodels.errors import InputError
from hwmodels.profile import Profile
from hwmodels.quantity import Confidence, Part, Quantity
from hwmodels.rates import efficiency_class
from hwmodels.workload import Arithmetic, Kernel, KernelKind

FloatArray = NDArray[np.float64]
REORDER = "reorder"  # the class of kernels that change a tensor's layout


CONVOLUTIONS = (KernelKind.CONV, KernelKind.POINTWISE, KernelKind.DEPTHWISE)
CHANNEL_MULTIPLE = 4  # a tensor goes into blocks if its channels are a multiple of it, the last block padded


def predictor_class(kernel: Kernel, block: int = 0) -> str:
    """Return the class whose regressor prices a kernel; integer kernels have classes of their own.

    ``block`` is the number of channels that a runtime puts side by side in float convolutions, 0 if it does not: those
    that it cannot run so are another class.
    """
    if kernel.macs:
        name = efficiency_class(kernel)
        name = "conv" if name == "winograd" else name  # what a runtime's Winograd saves shows in window and stride
        if kernel.arithmetic is Arithmetic.FLOAT:
            name += layout(kernel, block)
    elif kernel.kind is KernelKind.NORMALISATION:
        name = str(kernel.kind.value)
    else:
        name = kernel.op
    return name if kernel.arithmetic is Arithmetic.FLOAT else f"{name}_int{max(kernel.weight_bits, 8)}"


def layout(kernel: Kernel, block: int) -> str:
    """Return how a float convolution reads and writes: in blocks (""), from planes into blocks, or in planes.

    The rule is ONNX Runtime's (its NCHWc transformer): channels cut to any number are priced as what they become.
    """
    if not block or kernel.kind not in CONVOLUTIONS:
        return ""
    inside, outside = kernel.in_channels // kernel.groups, kernel.out_channels // kernel.groups
    if kernel.groups == 1:
        if inside < block:
            return "_from_planes"
        return "_in_planes" if inside % CHANNEL_MULTIPLE else ""
    if kernel.kind is KernelKind.DEPTHWISE and outside == 1:
        return "_in_planes" if kernel.out_channels % CHANNEL_MULTIPLE else ""
    return "_in_planes" if inside % block or outside % block else ""


def leaves_layout(kernel: Kernel, block: int) -> bool:
    """Return whether a float convolution writes another layout than a convolution of its channels will read."""
    if not block or kernel.kind not in CONVOLUTIONS or kernel.arithmetic is not Arithmetic.FLOAT:
        return False
    wanted = kernel.out_channels >= block and kernel.out_channels % CHANNEL_MULTIPLE == 0
    return wanted != (layout(kernel, block) != "_in_planes")


def features(kernel: Kernel, demand: Demand, block: int = 0) -> tuple[float, ...]:
    """Return what a regressor sees: logarithms of sizes, so that a product law is linear.

    By how much channels overshoot whole vectors is among them. Of kernels without MACs only the values count, but for
    pooling.
    """
    if not kernel.macs and kernel.kind is not KernelKind.POOL:
        return (0.0, 0.0, log1p(demand.input_elements), log1p(demand.output_elements), *(0.0,) * (FEATURES - 4))
    inside, outside = kernel.in_channels // kernel.groups, kernel.out_channels
    pixels = demand.output_elements / max(kernel.out_channels, 1)
    unit = block or DEFAULT_BLOCK
    return (
        log1p(kernel.macs),
        log1p(demand.weight_bytes),
        log1p(demand.input_elements),
        log1p(demand.output_elements),
        log1p(inside),
        log1p(outside),
        log1p(kernel.kernel[0] * kernel.kernel[1]),
        float(kernel.stride[0]),
        _overshoot(outside, unit),
        _overshoot(inside, unit),
        float(inside % unit > 0),
        float(inside % CHANNEL_MULTIPLE > 0),
        float(outside % unit > 0),
        outside % unit / max(outside, 1),  # channels that some kernels take one by one
        _overshoot(round(sqrt(pixels)), PIXEL_TILE),
        float(kernel.op.endswith("+add")) + float("hard_swish" in kernel.followers),  # only some kernels take these in
    )


def _overshoot(count: int, unit: int) -> float:
    return log(-(-count // unit) * unit / count) if count else 0.0


FEATURES = 16
DEFAULT_BLOCK = 16
MAX_SAMPLES = 240  # of one class
PIXEL_TILE = 6  # output pixels that kernels work on at a time: around so many on most processors
MAX_KNOWN = 100_000  # predictions kept, since a search asks for the same kernels again


class Regressor(Part):
    """A fitted Gaussian process: ``log µs = trend·(1, z) + Σ weight·k(z, sample)`` with ``z`` scaled features."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    trend: tuple[float, ...]
    length: float
    samples: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


class PredictorParameters(Part):
    """Regressors by class, what they were fitted to, and how they did on samples that they had not seen."""

    classes: Mapping[str, Regressor]
    fallback: Mapping[str, str] = {}  # pydantic copies defaults
    block: Annotated[int, Field(ge=0)] = 0  # channels side by side in float convolutions; see ``layout``
    fixed_us: Quantity
    confidence: Confidence
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelMeasurement:
    """A kernel that was timed."""

    kernel: Kernel
    demand: Demand
    latency_us: float


def fit_regressors(measurements: Sequence[KernelMeasurement], block: int = 0) -> dict[str, Regressor]:
    """Return one regressor per class that occurs."""
    by_class: dict[str, list[KernelMeasurement]] = {}
    for measurement in measurements:
        by_class.setdefault(predictor_class(measurement.kernel, block), []).append(measurement)
    fitted = {}
    for name, found in by_class.items():
        rows = found
        if len(found) > MAX_SAMPLES:  # enough to learn from; more would only make the profile long
            chosen = np.random.default_rng(0).choice(len(found), MAX_SAMPLES, replace=False)
            rows = [found[index] for index in sorted(chosen)]
        samples = np.array([features(row.kernel, row.demand, block) for row in rows])
        fitted[name] = fit_regressor(samples, np.array([row.latency_us for row in rows]))
    return fitted


def fit_regressor(samples: FloatArray, latency_us: FloatArray) -> Regressor:
    """Return a regressor of ``(n, features)`` samples.

    The trend is a ridge regression around proportionality to the work (MACs, else values), so that fewer samples than
    features are enough; the process takes what is left. How far each feature reaches, how strong the process is and how
    noisy samples are maximises their likelihood (Rasmussen and Williams 2006, section 5.4.1), under weak priors so that
    few samples suffice.
    """
    mean, spread = samples.mean(axis=0), np.maximum(samples.std(axis=0), LEAST_SPREAD)
    scaled = (samples - mean) / spread
    law = _law(samples, spread)
    target = np.log(latency_us) - scaled @ law
    design = np.column_stack([np.ones(len(scaled)), scaled])
    penalty = np.diag([1e-9, *np.full(scaled.shape[1], TREND_PENALTY)])
    trend = np.linalg.solve(design.T @ design + penalty, design.T @ target)
    residual = target - design @ trend
    trend[1:] += law
    reach, strength, noise = _likeliest(scaled, residual)
    near = scaled / reach
    gram = strength**2 * _kernel_matrix(near, near, 1.0) + noise**2 * np.eye(len(near))
    weights = strength**2 * cho_solve(cho_factor(gram), residual)
    return Regressor(
        mean=_rounded(mean),
        scale=_rounded(spread * reach),
        trend=_rounded(np.array([trend[0], *(trend[1:] * reach)])),
        length=1.0,
        samples=tuple(_rounded(row) for row in near),
        weights=_rounded(weights),
    )


TREND_PENALTY = 2.0  # in samples: so many say as much as the law that time follows work
LEAST_SPREAD = 0.2  # a feature that hardly varies must not come to mean much


def _law(samples: FloatArray, spread: FloatArray) -> FloatArray:
    """Return the slopes of a time that is proportional to the work."""
    slopes = np.zeros(samples.shape[1])
    work = 0 if samples[:, 0].any() else 3
    slopes[work] = spread[work]
    return slopes


_USUAL = np.log([3.0, 0.3, 0.05])  # reach in spreads of a feature, strength and noise in logarithms of the time


def _likeliest(scaled: FloatArray, residual: FloatArray) -> tuple[FloatArray, float, float]:
    """Return reach by feature, strength and noise of a process that explains the residuals."""
    count, width = scaled.shape
    squared = (scaled.T[:, :, None] - scaled.T[:, None, :]) ** 2  # (features, n, n)
    usual = np.array([*np.full(width, _USUAL[0]), *_USUAL[1:]])

    def loss(knobs: FloatArray) -> tuple[float, FloatArray]:
        inverse_reach = np.exp(-2 * knobs[:width])
        signal = np.exp(2 * knobs[-2]) * np.exp(-0.5 * np.tensordot(inverse_reach, squared, 1))
        gram = signal + np.exp(2 * knobs[-1]) * np.eye(count)
        factor = cho_factor(gram, lower=True)
        solved = cho_solve(factor, residual)
        inner = np.outer(solved, solved) - cho_solve(factor, np.eye(count))
        value = 0.5 * residual @ solved + np.log(np.diag(factor[0])).sum()
        weighted = inner * signal
        slope = np.empty_like(knobs)
        slope[:width] = -0.5 * inverse_reach * np.tensordot(squared, weighted, 2)
        slope[-2] = -weighted.sum()
        slope[-1] = -np.exp(2 * knobs[-1]) * np.trace(inner)
        return float(value + 0.5 * ((knobs - usual) ** 2).sum()), slope + (knobs - usual)

    bounds = [(np.log(0.3), np.log(30.0))] * width + [(np.log(0.01), np.log(3.0)), (np.log(0.01), np.log(0.5))]
    found = minimize(loss, usual, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    reach: FloatArray = np.exp(found.x[:width])
    return reach, float(np.exp(found.x[-2])), float(np.exp(found.x[-1]))


def _rounded(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)


def _kernel_matrix(left: FloatArray, right: FloatArray, length: float) -> FloatArray:
    squared = ((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=2)
    matrix: FloatArray = np.exp(-squared / (2 * length**2))
    return matrix


class _Compiled:
    def __init__(self, regressor: Regressor) -> None:
        self._mean, self._scale = np.array(regressor.mean), np.array(regressor.scale)
        self._trend, self._length = np.array(regressor.trend), regressor.length
        self._samples, self._weights = np.array(regressor.samples), np.array(regressor.weights)

    def latency_us(self, row: tuple[float, ...]) -> float:
        scaled = (np.array(row) - self._mean) / self._scale
        squared = ((self._samples - scaled) ** 2).sum(axis=1)
        trend = self._trend[0] + self._trend[1:] @ scaled
        return float(np.exp(trend + np.exp(-squared / (2 * self._length**2)) @ self._weights))


@COST_MODELS.register("kernel_predictor")
class PredictorModel(CostModel):
    """Sum of predicted kernel times. Fitted: it may be cheaper for more channels where measurements are.

    A kernel whose class was never measured takes the regressor named in ``fallback``, else the device refuses it.
    """

    Parameters: ClassVar[type[Part]] = PredictorParameters
    analytic: ClassVar[bool] = False

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        model = profile.model
        if not isinstance(model, PredictorParameters):
            raise TypeError(f"kernel_predictor needs its own parameters, got {type(model).__name__}")
        for name, regressor in model.classes.items():
            if {len(regressor.mean), len(regressor.scale), len(regressor.trend) - 1} != {FEATURES}:
                raise InputError(f"model.classes.{name}", f"must have {FEATURES} features")
        self._model = model
        self._compiled = {name: _Compiled(regressor) for name, regressor in model.classes.items()}
        self._classes = {name: name for name in self._compiled}
        for name, other in model.fallback.items():
            if other in self._compiled:
                self._classes.setdefault(name, other)
        self._known: dict[tuple[str, tuple[float, ...]], float] = {}

    def price(self, kernel: Kernel, demand: Demand) -> KernelPrice:
        """Return the predicted time; a class that nobody measured costs nothing but is refused."""
        name = self._class(kernel)
        moved = (demand.weight_bytes + demand.input_bytes + demand.output_bytes) * 8
        if name is None:
            return KernelPrice(0.0, "unknown", 0.0, 0.0, moved, moved)
        latency_us = self._predicted(name, features(kernel, demand, self._model.block))
        if REORDER in self._compiled and leaves_layout(kernel, self._model.block):
            values = log1p(demand.output_elements)
            latency_us += self._predicted(REORDER, (0.0, 0.0, values, values, *(0.0,) * (FEATURES - 4)))
        return KernelPrice(latency_us, "fitted", latency_us, 0.0, moved, moved)

    def _predicted(self, name: str, row: tuple[float, ...]) -> float:
        latency_us = self._known.get((name, row))
        if latency_us is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            latency_us = self._known[name, row] = self._compiled[name].latency_us(row)
        return latency_us

    def overhead_us(self, weight_bytes: Bytes, border_bytes: Bytes) -> Bytes:
        """Return the fixed time per network."""
        return self._model.fixed_us.value + 0.0 * weight_bytes

    def refusal(self, kernel: Kernel) -> str | None:
        """Return why a kernel has no price."""
        if kernel.macs and self._class(kernel) is None:
            known = ", ".join(self._compiled)
            return f"no kernel of class {predictor_class(kernel, self._model.block)!r} was measured; known: {known}"
        return None

    def _class(self, kernel: Kernel) -> str | None:
        name = predictor_class(kernel, self._model.block)
        found = self._classes.get(name)
        if found is None and not kernel.macs:  # what is not worth a class of its own
            found = self._classes.get(f"{kernel.kind.value}{name.removeprefix(kernel.op)}")
        return found
