"""What can stand in a block's place; one file per operator, all in ``OPERATORS``."""

from compress.operators.base import OPERATORS, Operator, Replacement, apply_operators
from compress.operators.c_ghost import CGhost
from compress.operators.depthwise_separable import DepthwiseSeparable
from compress.operators.g_ghost import GGhost
from compress.operators.kernel import Kernel
from compress.operators.low_rank import LowRank
from compress.operators.mgic import Mgic
from compress.operators.original import Original
from compress.operators.segregated import Segregated
from compress.operators.skip import Skip
from compress.operators.width import Width

__all__ = [
    "OPERATORS",
    "CGhost",
    "DepthwiseSeparable",
    "GGhost",
    "Kernel",
    "LowRank",
    "Mgic",
    "Operator",
    "Original",
    "Replacement",
    "Segregated",
    "Skip",
    "Width",
    "apply_operators",
]
