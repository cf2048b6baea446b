"""Ranges by information lost: the clipping whose quantized histogram diverges least from the exact one."""

import numpy as np

from compress.calibration.grid import ActivationGrid
from compress.calibration.histogram import BINS, Histogram
from compress.calibration.ranges import ACTIVATION_RANGES, Bounds, min_max

SHARES = tuple(float(share) for share in np.linspace(1.0, 0.05, 96))
"""Shares of the full range that are tried, both ends together."""
FLOOR = 1e-12
"""Probability that counts as none: a bin that the quantized histogram lost costs much, not infinitely much."""


@ACTIVATION_RANGES.register("kl")
def least_divergence(histogram: Histogram, bits: int, activation_type: str) -> Bounds:
    """Return the bounds with the least Kullback-Leibler divergence of the quantized values from the clipped ones.

    The reference is the histogram with everything beyond the bounds counted in the outermost bins. The quantized one
    spreads what falls on a level evenly over those bins of the level that have values. Exact zeros, which no grid
    moves, are left out.

    Source: Migacz, "8-bit inference with TensorRT", GTC 2017, calibration by entropy; there for symmetric grids of 8
    bits and fixed bin counts, here for any grid.
    """
    least, most = min_max(histogram, bits, activation_type)
    if histogram.width == 0.0 or not histogram.counts.any():
        return least, most
    candidates = [(least * share, most * share) for share in SHARES]
    losses = [_divergence(histogram, bounds, bits, activation_type) for bounds in candidates]
    return candidates[int(np.argmin(losses))]


def _divergence(histogram: Histogram, bounds: Bounds, bits: int, activation_type: str) -> float:
    grid = ActivationGrid.spanning(*bounds, bits, activation_type)
    centres = histogram.low + histogram.width * (np.arange(BINS) + 0.5)
    inside = np.flatnonzero((centres >= bounds[0]) & (centres <= bounds[1]))
    if inside.size < 2:
        return np.inf
    first, last = inside[0], inside[-1] + 1
    counts = histogram.counts[first:last].copy()
    reference = counts.copy()
    reference[0] += histogram.counts[:first].sum()
    reference[-1] += histogram.counts[last:].sum()
    levels = np.clip(np.rint(centres[first:last] / grid.scale) + grid.zero_point, grid.low, grid.high) - grid.low
    codes = levels.astype(np.int64)
    used = reference > 0
    mass = np.bincount(codes, counts, minlength=2**bits)
    share = mass / np.maximum(np.bincount(codes, used, minlength=2**bits), 1)
    quantized = np.where(used, share[codes], 0.0)
    exact, found = reference[used] / reference.sum(), quantized[used] / max(quantized.sum(), FLOOR)
    return float((exact * np.log(exact / np.maximum(found, FLOOR))).sum())
