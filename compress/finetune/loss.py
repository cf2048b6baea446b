"""What is minimised: the distance from the float network's class scores, and from the labels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.finetune.batches import Blend


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


def classification(scores: Tensor, labels: Tensor, blended: Blend | None = None) -> Tensor:
    """Return the mean cross-entropy with integer labels; a blended image has a share of its partner's, too."""
    if blended is None:
        return F.cross_entropy(_flat(scores), labels)
    own = F.cross_entropy(_flat(scores), labels, reduction="none")
    other = F.cross_entropy(_flat(scores), labels[blended.partners], reduction="none")
    return torch.lerp(own, other, blended.shares.reshape(-1, *(1,) * (own.ndim - 1))).mean()


def _flat(scores: Tensor) -> Tensor:
    """Return scores without the positions of an unflattened head, if it has just one."""
    return scores.flatten(1) if scores.shape[2:].numel() == 1 else scores
