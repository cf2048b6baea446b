"""Kernel predictors fitted to measured kernels: one regressor per class, stored as plain numbers.

The idea of nn-Meter (Zhang et al., MobiSys 2021): a network's time is the sum of its kernels' times, each predicted
by a regressor trained on measured kernels of that class. Ours is a Gaussian process on the logarithm of the time over
logarithmic shape features, with a linear trend: it is smooth between samples and follows the trend beyond them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from hwmodels.cost_model import COST_MODELS, Bytes, CostModel, Demand, KernelPrice
from hwmodels.errors import InputError
from hwmodels.profile import Profile
from hwmodels.quantity import Confidence, Part, Quantity
from hwmodels.rates import efficiency_class
from hwmodels.workload import Arithmetic, Kernel, KernelKind

FloatArray = NDArray[np.float64]


def predictor_class(kernel: Kernel) -> str:
    """Return the class whose regressor prices a kernel; integer kernels have classes of their own."""
    if not kernel.macs:
        name = kernel.op if kernel.kind is KernelKind.ELEMENTWISE else str(kernel.kind.value)
    else:
        name = efficiency_class(kernel)
    return name if kernel.arithmetic is Arithmetic.FLOAT else f"{name}_int{max(kernel.weight_bits, 8)}"


def features(kernel: Kernel, demand: Demand) -> tuple[float, ...]:
    """Return what a regressor sees: logarithms of sizes, so that a product law is linear."""
    return (
        float(np.log1p(kernel.macs)),
        float(np.log1p(demand.weight_bytes)),
        float(np.log1p(demand.input_elements)),
        float(np.log1p(demand.output_elements)),
        float(np.log1p(kernel.in_channels)),
        float(np.log1p(kernel.out_channels)),
        float(np.log1p(kernel.kernel[0] * kernel.kernel[1])),
        float(kernel.stride[0]),
    )


FEATURES = 8
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
    fixed_us: Quantity
    confidence: Confidence
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelMeasurement:
    """A kernel that was timed."""

    kernel: Kernel
    demand: Demand
    latency_us: float


def fit_regressor(
    samples: FloatArray, latency_us: FloatArray, *, length: float = 3.0, noise: float = 0.05
) -> Regressor:
    """Return a regressor of ``(n, features)`` samples; ``noise`` is the relative spread of a measurement.

    The trend is a ridge regression, so that fewer samples than features are enough; the process takes what is left.
    """
    mean, scale = samples.mean(axis=0), samples.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    scaled = (samples - mean) / scale
    target = np.log(latency_us)
    design = np.column_stack([np.ones(len(scaled)), scaled])
    penalty = 0.05 * len(scaled) * np.diag([0.0, *np.full(scaled.shape[1], 1.0)]) + 1e-9 * np.eye(design.shape[1])
    trend = np.linalg.solve(design.T @ design + penalty, design.T @ target)
    residual = target - design @ trend
    spread = max(float(residual.var()), 1e-6)
    gram = spread * _kernel_matrix(scaled, scaled, length) + noise**2 * np.eye(len(scaled))
    weights = spread * cho_solve(cho_factor(gram), residual)
    return Regressor(
        mean=_rounded(mean),
        scale=_rounded(scale),
        trend=_rounded(trend),
        length=length,
        samples=tuple(_rounded(row) for row in scaled),
        weights=_rounded(weights),
    )


def fit_regressors(measurements: Sequence[KernelMeasurement]) -> dict[str, Regressor]:
    """Return one regressor per class that occurs."""
    by_class: dict[str, list[KernelMeasurement]] = {}
    for measurement in measurements:
        by_class.setdefault(predictor_class(measurement.kernel), []).append(measurement)
    return {
        name: fit_regressor(
            np.array([features(row.kernel, row.demand) for row in rows]),
            np.array([row.latency_us for row in rows]),
        )
        for name, rows in by_class.items()
    }


def _rounded(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in values)


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
        self._known: dict[tuple[str, tuple[float, ...]], float] = {}

    def price(self, kernel: Kernel, demand: Demand) -> KernelPrice:
        """Return the predicted time; a class that nobody measured costs nothing but is refused."""
        name = self._class(kernel)
        moved = (demand.weight_bytes + demand.input_bytes + demand.output_bytes) * 8
        if name is None:
            return KernelPrice(0.0, "unknown", 0.0, 0.0, moved, moved)
        row = features(kernel, demand)
        latency_us = self._known.get((name, row))
        if latency_us is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            latency_us = self._known[name, row] = self._compiled[name].latency_us(row)
        return KernelPrice(latency_us, "fitted", latency_us, 0.0, moved, moved)

    def overhead_us(self, weight_bytes: Bytes, border_bytes: Bytes) -> Bytes:
        """Return the fixed time per network."""
        return self._model.fixed_us.value + 0.0 * weight_bytes

    def refusal(self, kernel: Kernel) -> str | None:
        """Return why a kernel has no price."""
        if kernel.macs and self._class(kernel) is None:
            return f"no kernel of class {predictor_class(kernel)!r} was measured; known: {', '.join(self._compiled)}"
        return None

    def _class(self, kernel: Kernel) -> str | None:
        name = predictor_class(kernel)
        if name not in self._compiled:
            name = self._model.fallback.get(name, "")
        return name if name in self._compiled else None
