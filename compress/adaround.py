"""AdaRound: whether each weight goes up or down is learned, so that the layer's output changes least."""

import torch
from torch import Tensor

from compress.quantizers import Quantizer

STEPS = 1000
RATE = 0.05
WARM_UP = 0.2
"""Share of the steps before rounding is asked for at all."""
SHARPNESS = (20.0, 2.0)
"""Exponent of the rounding term at first, and in the end: at first only undecided weights are left alone by it."""
STRENGTH = 30.0
"""Weight of the rounding term, per channel, against an output error of 1 = that of rounding to nearest."""
LEAST, MOST = -0.1, 1.1
"""Ends of the stretched sigmoid: clipped to 0 and 1, so both are reached."""


def adaround(weight: Tensor, quantizer: Quantizer, step: Tensor, moments: Tensor, *, other: Tensor) -> Tensor:
    """Return ``weight`` on the fitted quantizer's grid, each value rounded up or down as is best for the output.

    The output error of a channel is ``e H e`` with ``e`` the change of its weights and ``H`` the second moments of
    what they are multiplied by: the mean squared error over all calibration positions at once, so that no image is
    run through the layer again. It is minimised over ``h`` in 0…1, weights being ``lower + h * step``, by Adam, with
    the term ``1 - |2 h - 1|**b`` that drives every ``h`` to an end. A channel for which rounding to nearest, or
    ``other``, does better takes that.

    Source: Nagel, Amjad, van Baalen, Louizos, Blankevoort 2020, arXiv:2004.10568, section 3.3; layer by layer, without
    the activation function in the error, on moments in place of mini-batches. Rate, number of steps and strength are
    our own.

    Args:
        weight: ``(channels, ...)`` float32.
        quantizer: Fitted to ``weight``; rounds each value by itself.
        step: Distance of neighbouring levels: one per channel, or one.
        moments: ``(groups, taps, taps)``, see ``compress.rounding.second_moments``.
        other: The weight rounded in another way.
    """
    groups, taps = moments.shape[:2]
    exact = weight.detach().float().reshape(groups, -1, taps)
    nearest = quantizer(weight.detach()).float()
    towards = torch.sign(weight.detach() - nearest) * step.reshape(-1, *[1] * (weight.ndim - 1))
    second = quantizer(nearest + towards).float()  # beyond the last level: the nearest one again
    lower, upper = torch.minimum(nearest, second).reshape_as(exact), torch.maximum(nearest, second).reshape_as(exact)
    gap = upper - lower
    share = torch.where(gap > 0, (exact - lower) / torch.where(gap > 0, gap, 1.0), 0.0).clamp(0.01, 0.99)
    hidden = torch.logit((share - LEAST) / (MOST - LEAST))
    unit = _error(nearest.reshape_as(exact) - exact, moments).clamp_min(torch.finfo(torch.float32).tiny)[..., None]

    mean, square = torch.zeros_like(hidden), torch.zeros_like(hidden)
    for count in range(1, STEPS + 1):
        logistic = torch.sigmoid(hidden)
        share = (logistic * (MOST - LEAST) + LEAST).clamp(0.0, 1.0)
        gradient = 2 * ((lower + share * gap - exact) @ moments) * gap / unit
        if count > WARM_UP * STEPS:
            done = (count / STEPS - WARM_UP) / (1 - WARM_UP)
            sharpness = SHARPNESS[0] + (SHARPNESS[1] - SHARPNESS[0]) * done
            side = 2 * share - 1
            gradient -= STRENGTH / taps * 2 * sharpness * side.abs() ** (sharpness - 1) * torch.sign(side)
        gradient *= logistic * (1 - logistic) * (MOST - LEAST)  # clipped ends keep a gradient and can come back
        mean.mul_(0.9).add_(gradient, alpha=0.1)
        square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        hidden -= RATE * (mean / (1 - 0.9**count)) / ((square / (1 - 0.999**count)).sqrt() + 1e-12)

    candidates = torch.stack([torch.where(share > 0.5, upper, lower), *(c.reshape_as(exact) for c in (nearest, other))])
    best = torch.stack([_error(candidate - exact, moments) for candidate in candidates]).argmin(0)  # (groups, out)
    return candidates.gather(0, best[None, ..., None].expand_as(candidates[:1]))[0].reshape(weight.shape)


def _error(change: Tensor, moments: Tensor) -> Tensor:
    """Return the mean squared change of every channel's output: ``(groups, out)``."""
    return ((change @ moments) * change).sum(-1)
