"""Which channels matter: one file per criterion, all in ``PRUNERS``."""

from compress.pruners.base import PRUNERS, Pruner, Scores
from compress.pruners.fisher import Fisher
from compress.pruners.geometric_median import GeometricMedian
from compress.pruners.magnitude import L1, L2
from compress.pruners.nisp import NISP
from compress.pruners.scale import BatchNormScale
from compress.pruners.taylor import Taylor

__all__ = ["L1", "L2", "NISP", "PRUNERS", "BatchNormScale", "Fisher", "GeometricMedian", "Pruner", "Scores", "Taylor"]
