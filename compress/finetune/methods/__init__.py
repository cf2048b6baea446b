"""Fine-tuning methods, found through ``METHODS``."""

from compress.finetune.methods import clipped as clipped  # registers itself
from compress.finetune.methods import learned_step as learned_step
from compress.finetune.methods.base import METHODS, ActivationGrid, Method, WeightGrid

__all__ = ["METHODS", "ActivationGrid", "Method", "WeightGrid"]
