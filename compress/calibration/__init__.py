"""What the calibration images tell: histograms of activations, and the ranges that follow from them."""

from compress.calibration.divergence import least_divergence
from compress.calibration.grid import ActivationGrid
from compress.calibration.histogram import Histogram
from compress.calibration.ranges import ACTIVATION_RANGES, solve_grid

__all__ = ["ACTIVATION_RANGES", "ActivationGrid", "Histogram", "least_divergence", "solve_grid"]
