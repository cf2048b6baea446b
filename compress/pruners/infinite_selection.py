"""Features ranked by how they stand to all others: infinite feature selection."""

import torch
from torch import Tensor

ALPHA = 0.5
"""Weight of spread against independence."""

_BELOW_ONE = 0.9
"""Share of the largest factor with which the sum over paths still converges."""


def infinite_selection(features: Tensor) -> Tensor:
    """Return an importance of at least 0 for every feature.

    Features are the nodes of a graph whose edges weigh how much two of them vary and how little they agree:
    ``A = a * max(std_i, std_j) + (1 - a) * (1 - |spearman_ij|)``, the spread scaled to at most 1. A feature's
    importance is the weight of all paths of every length from it, ``((I - r A)^-1 - I) 1`` with
    ``r = 0.9 / spectral radius``.

    Source: Roffo, Melzi, Cristani 2015, "Infinite Feature Selection", ICCV, sections 3 and 4.

    Args:
        features: ``(samples, features)``.
    """
    values = features.to(torch.float64)
    spread = values.std(0, correction=0)
    spread = spread / spread.max().clamp_min(torch.finfo(torch.float64).tiny)
    ranks = _ranks(values)
    centred = ranks - ranks.mean(0)
    norms = centred.norm(dim=0)
    agreement = (centred.T @ centred) / (norms[:, None] * norms).clamp_min(torch.finfo(torch.float64).tiny)
    weights = ALPHA * torch.maximum(spread[:, None], spread) + (1 - ALPHA) * (1 - agreement.abs().clamp_max(1))
    radius = torch.linalg.eigvalsh(weights).abs().max()
    identity = torch.eye(len(weights), dtype=torch.float64)
    factor = _BELOW_ONE / radius.clamp_min(torch.finfo(torch.float64).tiny)
    paths: Tensor = torch.linalg.solve(identity - factor * weights, torch.ones(len(weights), dtype=torch.float64))
    return paths - 1


def _ranks(values: Tensor) -> Tensor:
    """Return ranks down the columns; equal values share the mean of their ranks."""
    order = values.sort(0).values.T.contiguous()
    columns = values.T.contiguous()
    below = torch.searchsorted(order, columns, right=False)
    up_to = torch.searchsorted(order, columns, right=True)
    return ((below + up_to - 1) / 2).T.to(torch.float64)
