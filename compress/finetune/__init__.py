"""Fine-tuning of compressed networks: weights, and the grids that they are rounded to, learn together."""

from compress.finetune.methods import METHODS, ActivationGrid, Method, WeightGrid
from compress.finetune.network import TrainableNetwork
from compress.finetune.settings import FineTuning
from compress.finetune.training import Progress, finetune

__all__ = [
    "METHODS",
    "ActivationGrid",
    "FineTuning",
    "Method",
    "Progress",
    "TrainableNetwork",
    "WeightGrid",
    "finetune",
]
