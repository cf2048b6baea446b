"""Channels that others can stand in for go first."""

import torch
from torch import Tensor

from compress.pruners.base import PRUNERS
from compress.pruners.magnitude import Magnitude


def _distances(rows: Tensor) -> Tensor:
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(1)


class GeometricMedian(Magnitude):
    """Scores a filter by the sum of its Euclidean distances to all filters of its layer.

    The lowest lie nearest to the filters' geometric median: the others can replace them.

    Source: He et al. 2019 (FPGM), arXiv:1811.00250, section 3.3, equation 8.
    """

    def __init__(self) -> None:
        super().__init__(_distances)


PRUNERS.register("geometric_median")(GeometricMedian())
