"""From a histogram to a grid, for any width and without looking at the images again."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from compress.calibration.grid import ActivationGrid
from compress.calibration.histogram import BINS, Histogram
from compress.registry import Registry

OUTLIERS = 1e-4
"""Share of values that ``percentile`` lets fall outside, both ends together."""
SHARES = tuple(float(share) for share in np.linspace(1.0, 0.05, 20))
"""Shares of the full range that ``mse`` tries first."""

FINE_BITS = 6
"""From this width on ``mse`` treats rounding errors as evenly spread."""

Floats = npt.NDArray[np.float64]
Bounds = tuple[float, float]
BoundsRule = Callable[[Histogram, int, str], Bounds]
ACTIVATION_RANGES: Registry[BoundsRule] = Registry("activation_range")


def solve_grid(
    histogram: Histogram, bits: int, *, method: str, activation_type: str, scale_format: str = "float32"
) -> ActivationGrid:
    """Return the grid of ``bits`` bits for the values that ``histogram`` saw."""
    bounds = ACTIVATION_RANGES.get(method)(histogram, bits, activation_type)
    grid = ActivationGrid.spanning(*bounds, bits, activation_type)
    return grid.in_power_of_two() if scale_format == "power_of_two" else grid


@ACTIVATION_RANGES.register("min_max")
def min_max(histogram: Histogram, bits: int, activation_type: str) -> Bounds:
    """Return the extremes: nothing is clipped."""
    return min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)


@ACTIVATION_RANGES.register("percentile")
def percentile(histogram: Histogram, bits: int, activation_type: str) -> Bounds:
    """Return the bounds that leave ``OUTLIERS`` of all values outside, half of it below where values are negative."""
    least, most = min_max(histogram, bits, activation_type)
    edges = histogram.low + histogram.width * np.arange(BINS + 1)
    counts = histogram.counts.copy()
    if histogram.width > 0:
        counts[min(BINS - 1, int(-histogram.low / histogram.width))] += histogram.zeros
    share = np.concatenate([[0.0], np.cumsum(counts) / max(counts.sum(), 1.0)])
    tail = OUTLIERS / 2 if least < 0 else OUTLIERS
    below = float(np.interp(tail, share, edges)) if least < 0 else 0.0
    above = float(np.interp(1 - tail, share, edges))
    return min(max(below, least), 0.0), max(min(above, most), 0.0)


@ACTIVATION_RANGES.register("mse")
def least_squares(histogram: Histogram, bits: int, activation_type: str) -> Bounds:
    """Return the bounds with the least squared error of rounding and clipping together.

    Both ends shrink together first; then each end alone, and finer, around the best. Values are taken to be spread
    evenly inside a bin.
    """
    least, most = min_max(histogram, bits, activation_type)
    if histogram.width == 0.0:
        return least, most
    error = _SquaredError(histogram, bits, activation_type)
    best = error.best_of([(least * share, most * share) for share in SHARES])
    step = SHARES[0] - SHARES[1]
    shifts = [step * part / 4 for part in range(-4, 5)]
    for _ in range(2):
        if least < 0:
            best = error.best_of([best, *((min(best[0] - least * shift, 0.0), best[1]) for shift in shifts)])
        if most > 0:
            best = error.best_of([best, *((best[0], max(best[1] + most * shift, 0.0)) for shift in shifts)])
        shifts = [shift / 4 for shift in shifts]
    return best


class _SquaredError:
    """Squared error of a grid from prefix sums of the histogram.

    With few levels every level's own cell counts. From ``FINE_BITS`` on, rounding between the ends is taken as
    ``scale² / 12`` per value, and only clipping is summed: the cost no longer grows with the levels.
    """

    def __init__(self, histogram: Histogram, bits: int, activation_type: str) -> None:
        self._low, self._width = histogram.low, histogram.width
        self._bits, self._activation_type = bits, activation_type
        centres = histogram.low + histogram.width * (np.arange(BINS) + 0.5)
        powers = np.stack([histogram.counts, histogram.counts * centres, histogram.counts * centres**2])
        self._sums = np.concatenate([np.zeros((3, 1)), np.cumsum(powers, axis=1)], axis=1)  # (3, bins + 1)

    def best_of(self, candidates: Sequence[Bounds]) -> Bounds:
        """Return the candidate whose grid has the least error; the earliest of equals."""
        usable = [bounds for bounds in candidates if bounds[1] > bounds[0]]
        grids = [ActivationGrid.spanning(*bounds, self._bits, self._activation_type) for bounds in usable]
        scale = np.array([grid.scale for grid in grids])[:, None]
        zero_point = np.array([grid.zero_point for grid in grids])[:, None]
        low, high = grids[0].low, grids[0].high
        codes = np.array([low, high]) if self._bits >= FINE_BITS else np.arange(low, high + 1)
        levels = (codes[None, :] - zero_point) * scale  # (candidates, levels)
        return usable[int(np.argmin(self._fine(levels, scale) if self._bits >= FINE_BITS else self._coarse(levels)))]

    def _coarse(self, levels: Floats) -> Floats:
        sums = self._up_to((levels[:, 1:] + levels[:, :-1]) / 2)
        start, end = self._ends(len(levels))
        count, first, second = np.diff(np.concatenate([start, sums, end], axis=2), axis=2)
        errors: Floats = (second - 2 * levels * first + levels**2 * count).sum(axis=1)
        return errors

    def _fine(self, ends: Floats, scale: Floats) -> Floats:
        """Return the errors of grids that reach from ``ends[:, 0]`` to ``ends[:, 1]``."""
        sums = self._up_to(ends)
        start, end = self._ends(len(ends))
        below, inside, above = np.moveaxis(np.diff(np.concatenate([start, sums, end], axis=2), axis=2), 2, 0)
        rounding = inside[0] * scale[:, 0] ** 2 / 12
        clipping = (
            tail[2] - 2 * bound * tail[1] + bound**2 * tail[0]
            for tail, bound in zip((below, above), ends.T, strict=True)
        )
        errors: Floats = rounding + sum(clipping)
        return errors

    def _up_to(self, values: Floats) -> Floats:
        """Return count, sum and sum of squares of everything below each value: ``(3, *values.shape)``."""
        position = np.clip((values - self._low) / self._width, 0, BINS)
        index = np.minimum(position.astype(np.int64), BINS - 1)
        part = position - index
        return self._sums[:, index] * (1 - part) + self._sums[:, index + 1] * part

    def _ends(self, candidates: int) -> tuple[Floats, Floats]:
        shape = (3, candidates, 1)
        return np.zeros(shape), np.broadcast_to(self._sums[:, -1:, None], shape)
