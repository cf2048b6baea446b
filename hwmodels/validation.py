"""How far predictions are from measurements, in the figures that one can compare between tools."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSummary:
    """Errors of one group of predictions; never pool devices, the range of latencies hides everything."""

    count: int
    mape_percent: float
    median_percent: float
    within_5_percent: float
    within_10_percent: float
    within_20_percent: float
    worst_percent: float
    spearman: float | None  # None below three predictions

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def summarise(predicted: Sequence[float], measured: Sequence[float]) -> ErrorSummary:
    """Return the errors of predictions; relative to the measurement, in percent."""
    forecast, truth = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    error = 100 * np.abs(forecast - truth) / truth
    return ErrorSummary(
        count=len(error),
        mape_percent=float(error.mean()),
        median_percent=float(np.median(error)),
        within_5_percent=float(100 * (error <= 5).mean()),
        within_10_percent=float(100 * (error <= 10).mean()),
        within_20_percent=float(100 * (error <= 20).mean()),
        worst_percent=float(error.max()),
        spearman=spearman(forecast, truth),
    )


def spearman(left: Sequence[float] | np.ndarray, right: Sequence[float] | np.ndarray) -> float | None:
    """Return the rank correlation, or ``None`` where there is none to speak of."""
    if len(left) < 3 or len(set(map(float, left))) < 2 or len(set(map(float, right))) < 2:
        return None
    return float(np.corrcoef(rankdata(left), rankdata(right))[0, 1])
