"""Integer grids whose levels lie where a channel's weights do, around an exact zero."""

import torch
from torch import Tensor

from compress.quantizers.levels import power_of_two as nearest_power_of_two

SHIFTED_BITS = range(2, 8)
"""Widths with room for a shift: the levels of an 8-bit grid shifted by any amount would leave int8."""

SHARES = tuple(1 - 0.03 * step for step in range(20))
"""Shares of the full range that are tried, both ends together."""


def shifted_grid(rows: Tensor, bits: int, *, clip: bool, power_of_two: bool) -> tuple[Tensor, Tensor]:
    """Return scale and lowest level per row: ``(rows, n)`` → two of ``(rows,)``.

    Levels are ``lowest … lowest + 2**bits - 1`` and hold 0, so ``lowest`` is in ``-(2**bits - 1) … 0``. The grid spans
    the row's least and greatest value; with ``clip``, the share of that span with the least squared error. A row of
    zeros has scale 0. ``power_of_two`` rounds scales to
    the nearest one.

    Source: Krishnamoorthi 2018, arXiv:1806.08342, section 2.1; the zero point is kept inside the levels instead of
    beside them.
    """
    steps = 2**bits - 1
    least = rows.amin(1, keepdim=True).clamp_max(0.0)
    span = rows.amax(1, keepdim=True).clamp_min(0.0) - least
    best_error = torch.full_like(span, torch.inf)
    scale, lowest = torch.zeros_like(span), torch.zeros_like(span)
    for share in SHARES if clip else (1.0,):
        tried = span * (share / steps)
        if power_of_two:
            tried = nearest_power_of_two(tried)
        divisor = torch.where(tried > 0, tried, 1.0)
        shift = torch.round(least * share / divisor).clamp(-steps, 0)
        levels = torch.minimum(torch.maximum(torch.round(rows / divisor), shift), shift + steps)
        error = (levels * tried - rows).square().sum(1, keepdim=True)
        better = error < best_error
        scale, lowest = torch.where(better, tried, scale), torch.where(better, shift, lowest)
        best_error = torch.where(better, error, best_error)
    return scale.squeeze(1), lowest.squeeze(1)
