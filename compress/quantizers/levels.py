"""Arithmetic that integer grids share."""

import torch
from torch import Tensor


def nearest_levels(rows: Tensor, scale: Tensor, low: int, high: int, *, out: Tensor) -> Tensor:
    """Return the nearest level of each value; a scale of zero (an all-zero row) counts as one."""
    torch.div(rows, torch.where(scale > 0, scale, 1.0), out=out)
    return out.round_().clamp_(low, high)


def power_of_two(scale: Tensor) -> Tensor:
    """Return the power of two nearest to each scale on the logarithmic axis; zero stays zero."""
    return torch.where(scale > 0, torch.exp2(torch.log2(scale.clamp_min(torch.finfo(scale.dtype).tiny)).round()), 0.0)
