"""A histogram that grows with what it sees, so that one pass over the images is enough."""

from math import gcd, isfinite

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hwmodels.errors import InputError

BINS = 2048
SAMPLES = 1 << 16
"""Values counted of each batch; larger batches are thinned out evenly. The extremes are always exact."""


class Histogram:
    """Counts of an activation's values in ``BINS`` equal bins that always cover everything seen.

    The first batch sets the range; a value beyond it doubles the bins' width as often as needed, merging pairs. Exact
    zeros (half of a rectifier's output) are counted apart, because every grid holds zero exactly.

    Attributes:
        low: Lower edge of the first bin.
        width: Width of one bin.
        counts: Values per bin, without exact zeros.
        zeros: Exact zeros.
        minimum: Least value, exact.
        maximum: Greatest value, exact.
    """

    def __init__(self) -> None:
        self.low = 0.0
        self.width = 0.0
        self.counts: npt.NDArray[np.float64] = np.zeros(BINS)
        self.zeros = 0.0
        self.minimum = np.inf
        self.maximum = -np.inf

    @property
    def total(self) -> float:
        """Number of values counted."""
        return float(self.counts.sum()) + self.zeros

    def observe(self, values: Tensor) -> None:
        """Count the values of one batch.

        Raises:
            InputError: A value is infinite or not a number.
        """
        least, most = (float(bound) for bound in torch.aminmax(values.detach()))
        if not (isfinite(least) and isfinite(most)):
            raise InputError("activations", "must be finite on the calibration images", (least, most))
        self.minimum, self.maximum = min(self.minimum, least), max(self.maximum, most)
        self._cover(min(least, 0.0), max(most, 0.0))
        flat = values.detach().flatten()
        stride = _even_stride(flat.numel())
        sample = flat[::stride].float()
        zeros = int((sample == 0).sum())
        if self.width > 0:
            counts = torch.bincount(self._bins(sample), minlength=BINS).double().numpy()
            counts[int(self._bins(torch.zeros(1)))] -= zeros
            self.counts += counts * stride
        self.zeros += zeros * stride

    def _bins(self, sample: Tensor) -> Tensor:
        """Return the bin of each value, in the one arithmetic that decides it: rounding may move an edge."""
        return sample.sub(self.low).mul_(1 / self.width).to(torch.int32).clamp_(0, BINS - 1)

    def _cover(self, least: float, most: float) -> None:
        if self.width == 0.0:
            self.low, self.width = least, (most - least) / BINS
            return
        while self.low + BINS * self.width < most:
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.concatenate([merged, np.zeros(BINS // 2)])
            self.width *= 2
        while self.low > least:
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.concatenate([np.zeros(BINS // 2), merged])
            self.low -= BINS * self.width
            self.width *= 2


def _even_stride(count: int) -> int:
    """Return the least stride that leaves ``SAMPLES`` values and shares no factor with ``count``.

    Without a common factor it meets every channel, row and column equally often.
    """
    stride = max(1, -(-count // SAMPLES))
    while gcd(stride, count) > 1:
        stride += 1
    return stride
