"""Rounding to a learned grid with its gradients, in as few passes over memory as possible.

A grid has the values ``(code - zero_point) * step`` with integer codes in ``low``..``high``. Steps are learned on the
logarithmic axis, so they stay positive and move in proportion to their size. With ``g`` the gradient of the rounded
values ``q`` and ``g'`` what of it passes to the input (``g`` where nothing is clipped, 0 elsewhere), the derivative by
``log(step)`` is ``Σ g·q - Σ g'·x`` for LSQ and ``Σ g·q - Σ g'·q`` for PACT: two inner products instead of a tensor of
local derivatives.
"""

from typing import Any

import torch
from torch import Tensor

INSIDE, OUTSIDE, FIXED = "inside", "outside", "fixed"
"""What moves a step: rounding errors and clipped values (LSQ), clipped values alone (PACT), nothing."""


SIGN_REACH = 3.0
"""Weights further than so many steps (mean magnitudes) from zero get no gradient through the sign."""


class RoundActivation(torch.autograd.Function):
    """Round a tensor to one grid; gradients for the tensor, the step's logarithm and the zero point."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_step: Tensor, zero_point: Tensor, low: int, high: int, learns: str) -> Tensor:
        """Return ``x`` on the grid; ``log_step`` and ``zero_point`` hold one number each."""
        step, zero = float(log_step.detach().exp()), round(float(zero_point.detach()))
        bounds = (low - zero) * step, (high - zero) * step
        rounded = x.mul(1 / step).round_().clamp_(low - zero, high - zero).mul_(step)
        ctx.save_for_backward(x, rounded)
        ctx.grid = (step, bounds, learns)
        return rounded

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients; see the module's text."""
        x, rounded = ctx.saved_tensors
        step, (least, most), learns = ctx.grid
        if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
            grad = grad.contiguous(memory_format=torch.channels_last)  # once: what is passed on has this layout, too
        passed = torch.ops.aten.hardtanh_backward(grad, x, least, most)
        by_step = by_zero = None
        if learns != FIXED and ctx.needs_input_grad[1]:
            by_step = _dot(grad, rounded) - _dot(passed, x if learns == INSIDE else rounded)
        if ctx.needs_input_grad[2]:
            by_zero = ((passed.sum() - grad.sum()) * step).reshape(
                1
            )  # a clipped value is the grid's end, which moves along
        return passed, by_step, by_zero, None, None, None


class RoundWeight(torch.autograd.Function):
    """Round a weight to a grid around zero with one step per channel (or one); ``(channels, …)``."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, log_step: Tensor, low: int, high: int, learns: str) -> Tensor:
        """Return ``weight`` on the grid; ``log_step`` is ``(channels or 1,)``."""
        step = log_step.exp().reshape(-1, *(1,) * (weight.ndim - 1))
        levels = torch.where(weight >= 0, 1.0, -1.0) if (low, high) == (-1, 1) else (weight / step).round_()
        rounded = levels.clamp_(low, high).mul_(step)
        ctx.save_for_backward(weight, rounded, step)
        ctx.grid = (low, high, learns, log_step.numel())
        return rounded

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients; of one bit (levels -1 and 1) every weight counts as clipped for its step."""
        weight, rounded, step = ctx.saved_tensors
        low, high, learns, count = ctx.grid
        binary = (low, high) == (-1, 1)
        reach = SIGN_REACH if binary else 1.0
        inside = (weight > low * reach * step) & (weight < high * reach * step)
        passed = grad * inside
        by_step = None
        if learns != FIXED and ctx.needs_input_grad[1]:
            local = grad * rounded if binary else grad * rounded - passed * (weight if learns == INSIDE else rounded)
            by_step = local.reshape(count, -1).sum(1)
        return passed, by_step, None, None, None


def round_activation(x: Tensor, log_step: Tensor, zero_point: Tensor, *, low: int, high: int, learns: str) -> Tensor:
    """Return ``x`` on a grid, with gradients for it, the step's logarithm and the zero point, one number each."""
    rounded: Tensor = RoundActivation.apply(x, log_step, zero_point, low, high, learns)  # type: ignore[no-untyped-call]
    return rounded


def round_weight(weight: Tensor, log_step: Tensor, *, low: int, high: int, learns: str) -> Tensor:
    """Return a weight on a grid around zero, with gradients for it and for its steps' logarithms."""
    rounded: Tensor = RoundWeight.apply(weight, log_step, low, high, learns)  # type: ignore[no-untyped-call]
    return rounded


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Return the inner product as a vector of one number; tensors of the same dense layout are not copied."""
    if first.ndim == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in (first, second)):
        first, second = first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)
    return torch.dot(first.reshape(-1), second.reshape(-1)).reshape(1)
