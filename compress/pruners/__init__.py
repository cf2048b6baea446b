"""Which channels matter: one file per criterion, all in ``PRUNERS``."""

from compress.pruners.base import PRUNERS, Pruner, Scores
from compress.pruners.magnitude import L1, L2
from compress.pruners.scale import BatchNormScale

__all__ = ["L1", "L2", "PRUNERS", "BatchNormScale", "Pruner", "Scores"]
