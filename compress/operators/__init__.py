"""What can stand in a block's place; one file per operator, all in ``OPERATORS``."""

from compress.operators.base import OPERATORS, Operator, Replacement, apply_operators
from compress.operators.low_rank import LowRank
from compress.operators.original import Original
from compress.operators.skip import Skip

__all__ = ["OPERATORS", "LowRank", "Operator", "Original", "Replacement", "Skip", "apply_operators"]
