"""Evenly spaced levels around an exact zero: what integer hardware multiplies."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from compress.plan import Numerics
from compress.quantizers.base import QUANTIZERS, CodeLayout, Codes, IntegerWeight, Quantizer
from compress.registry import Registry
from hwmodels.errors import InputError
from hwmodels.workload import Arithmetic

CANDIDATES = 20
SMALLEST_SHARE = {2: 0.15, 3: 0.25, 4: 0.4, 5: 0.5, 6: 0.6, 7: 0.7, 8: 0.8}
"""Least share of the unclipped scale that is tried, by bits: where the error of a normal and of a Laplace
distribution is lowest lies well above it."""
REFINEMENTS = 3

ScaleRule = Callable[[Tensor, int, int], Tensor]
WEIGHT_RANGES: Registry[ScaleRule] = Registry("weight_range")


def grid(bits: int) -> tuple[int, int]:
    """Return the lowest and highest level.

    All ``2**bits`` levels are used below 8 bits. At 8 bits −128 is not: integer kernels expect −127…127 (TensorFlow
    Lite's specification) and it gains nothing. One bit has the two levels −1 and 1, and no zero.
    """
    if bits == 1:
        return -1, 1
    high = 2 ** (bits - 1) - 1
    return (-high if bits == 8 else -high - 1), high


@WEIGHT_RANGES.register("max")
def unclipped_scale(rows: Tensor, low: int, high: int) -> Tensor:
    """Return the least scale per row that clips nothing: ``(rows, n)`` → ``(rows, 1)``."""
    least, most = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    return torch.maximum(most / high, least / low)


@WEIGHT_RANGES.register("mse")
def least_squares_scale(rows: Tensor, low: int, high: int) -> Tensor:
    """Return the scale per row with the least squared error: ``(rows, n)`` → ``(rows, 1)``.

    The best of ``CANDIDATES`` shares of the unclipped scale is refined by alternating between the levels nearest to
    the weights and the scale that fits those levels best, ``⟨w, q⟩ / ⟨q, q⟩``; no step of that makes the error larger.
    """
    widest = unclipped_scale(rows, low, high)
    bits = (high - low).bit_length()
    best_error = torch.full_like(widest, torch.inf)
    best = widest
    buffer = torch.empty_like(rows)
    for share in torch.linspace(SMALLEST_SHARE[bits], 1.0, CANDIDATES).tolist():
        scale = widest * share
        _levels(rows, scale, low, high, out=buffer)
        error = buffer.mul_(scale).sub_(rows).square_().sum(1, keepdim=True)
        better = error < best_error
        best = torch.where(better, scale, best)
        best_error = torch.where(better, error, best_error)
    for _ in range(REFINEMENTS):
        _levels(rows, best, low, high, out=buffer)
        power = buffer.square().sum(1, keepdim=True)
        fitted = buffer.mul_(rows).sum(1, keepdim=True) / power
        best = torch.where(power > 0, fitted, best)
    return best


def _levels(rows: Tensor, scale: Tensor, low: int, high: int, *, out: Tensor) -> Tensor:
    """Return the nearest level of each value; a scale of zero (an all-zero row) counts as one."""
    torch.div(rows, torch.where(scale > 0, scale, 1.0), out=out)
    return out.round_().clamp_(low, high)


def _power_of_two(scale: Tensor) -> Tensor:
    """Return the power of two nearest to each scale on the logarithmic axis; zero stays zero."""
    return torch.where(scale > 0, torch.exp2(torch.log2(scale.clamp_min(torch.finfo(scale.dtype).tiny)).round()), 0.0)


@QUANTIZERS.register("uniform")
class UniformQuantizer(Quantizer):
    """Round weights to a symmetric integer grid with one scale per output channel.

    The level of a weight is ``round(w / s)``, ties to even, clipped to ``grid(bits)``; its code is the level's
    distance from the lowest one. One bit keeps the sign alone, with ``s = mean|w|``, which is the least squared error
    (Rastegari et al. 2016, arXiv:1603.05279, section 3.1); ``weight_range`` has no say there.
    The gradient passes the rounding and the clipping unchanged (straight-through, arXiv:1308.3432).

    Source: Krishnamoorthi 2018, arXiv:1806.08342, section 2.2.

    Of the plan's numerics it reads ``weight_granularity`` (``channel`` or ``tensor``), ``weight_range`` (``max`` or
    ``mse``) and ``scale_format`` (``float32`` or ``power_of_two``).
    """

    arithmetic: ClassVar[Arithmetic] = Arithmetic.INTEGER
    bit_widths: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 5, 6, 7, 8)
    idempotent: ClassVar[bool] = True
    separable: ClassVar[bool] = True
    scale: Tensor

    def __init__(self, bits: int, numerics: Numerics | None = None) -> None:
        super().__init__(bits, numerics)
        if self.numerics.weight_granularity not in ("channel", "tensor"):
            raise InputError(
                "numerics.weight_granularity", "must be channel or tensor", self.numerics.weight_granularity
            )
        if self.numerics.scale_format not in ("float32", "power_of_two"):
            raise InputError("numerics.scale_format", "must be float32 or power_of_two", self.numerics.scale_format)
        self._scale_rule = WEIGHT_RANGES.get(self.numerics.weight_range)
        self.low, self.high = grid(bits)
        self.register_buffer("scale", torch.ones(1))

    def fit(self, weight: Tensor) -> None:
        """Choose one scale per channel, or one for the whole tensor."""
        rows = weight.detach().float().reshape(self._scale_count(tuple(weight.shape)), -1)
        scale = rows.abs().mean(1) if self.bits == 1 else self._scale_rule(rows, self.low, self.high).squeeze(1)
        self.scale = _power_of_two(scale) if self.numerics.scale_format == "power_of_two" else scale

    def forward(self, weight: Tensor) -> Tensor:
        """Return ``weight`` on its grid, in weight units."""
        rounded = (self._integers(weight) * self._broadcast(self.scale, weight.ndim)).to(weight.dtype)
        if not weight.requires_grad:
            return rounded
        return rounded + (weight - weight.detach())  # the bracket is zero and carries the gradient

    def encode(self, weight: Tensor) -> Codes:
        """Return codes in the weight's own order and the scales."""
        levels = self._integers(weight)
        codes = levels > 0 if self.bits == 1 else levels - self.low
        return Codes(
            values=codes.to(torch.uint8).flatten(), parameters={"scale": self.scale}, shape=tuple(weight.shape)
        )

    def decode(self, codes: Codes) -> Tensor:
        """Return levels times scales."""
        return self._stored_integers(codes).float() * self._broadcast(codes.parameters["scale"], len(codes.shape))

    def layout(self, shape: tuple[int, ...]) -> CodeLayout:
        """Return one code per weight and one scale per channel (or one)."""
        count = 1
        for size in shape:
            count *= size
        return CodeLayout(codes=count, bits=self.bits, parameters={"scale": (self._scale_count(shape),)})

    def integers(self, codes: Codes) -> IntegerWeight:
        """Return the levels and scales; an all-zero channel has scale 1 (runtimes want positive ones)."""
        scale = codes.parameters["scale"]
        dead = scale == 0
        values = self._stored_integers(codes)
        if dead.any():
            values = torch.where(self._broadcast(dead, len(codes.shape)), torch.zeros_like(values), values)
        return IntegerWeight(values=values, scale=torch.where(dead, 1.0, scale))

    def _scale_count(self, shape: tuple[int, ...]) -> int:
        return shape[0] if self.numerics.weight_granularity == "channel" else 1

    def _integers(self, weight: Tensor) -> Tensor:
        fixed = weight.detach().float()
        if self.bits == 1:
            return torch.where(fixed >= 0, 1.0, -1.0)
        return _levels(
            fixed, self._broadcast(self.scale, weight.ndim), self.low, self.high, out=torch.empty_like(fixed)
        )

    def _stored_integers(self, codes: Codes) -> Tensor:
        values = codes.values.reshape(codes.shape).to(torch.int16)
        return (2 * values - 1 if self.bits == 1 else values + self.low).to(torch.int8)

    @staticmethod
    def _broadcast(per_channel: Tensor, dimensions: int) -> Tensor:
        return per_channel.reshape(-1, *(1,) * (dimensions - 1))
