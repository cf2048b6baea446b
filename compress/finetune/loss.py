"""What is minimised: the distance from the float network's class scores, and from the labels."""

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation(scores: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return the mean Kullback-Leibler divergence of softened class probabilities, times ``temperature²``.

    The factor keeps the gradient's size when the temperature changes (Hinton et al. 2015, arXiv:1503.02531, section
    2). Classes lie along dimension 1; further dimensions are positions.
    """
    scores, wanted = _flat(scores), _flat(wanted)
    target = torch.log_softmax(wanted / temperature, dim=1)
    found = torch.log_softmax(scores / temperature, dim=1)
    divergence = (target.exp() * (target - found)).sum(1)
    return divergence.mean() * temperature**2


def classification(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy with integer labels."""
    return F.cross_entropy(_flat(scores), labels)


def _flat(scores: Tensor) -> Tensor:
    """Return scores without the positions of an unflattened head, if it has just one."""
    return scores.flatten(1) if scores.shape[2:].numel() == 1 else scores
