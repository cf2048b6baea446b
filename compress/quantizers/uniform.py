"""Evenly spaced levels around an exact zero: what integer hardware multiplies."""

from collections.abc import Callable
from math import prod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.plan import Numerics
from compress.quantizers.base import QUANTIZERS, CodeLayout, Codes, IntegerWeight, Quantizer
from compress.quantizers.levels import nearest_levels, power_of_two
from compress.quantizers.shifted import SHIFTED_BITS, shifted_grid
from compress.registry import Registry
from hwmodels.errors import InputError
from hwmodels.workload import Arithmetic

CANDIDATES = 20
SMALLEST_SHARE = {2: 0.15, 3: 0.25, 4: 0.4, 5: 0.5, 6: 0.6, 7: 0.7, 8: 0.8}
"""Least share of the unclipped scale that is tried, by bits: where the error of a normal and of a Laplace
distribution is lowest lies well above it."""
REFINEMENTS = 3
GROUP = 32
"""Consecutive weights of a channel that share a scale where the plan asks for groups."""

OPTIONS = {
    "weight_granularity": ("channel", "tensor", "group"),
    "weight_symmetry": ("symmetric", "asymmetric"),
    "scale_format": ("float32", "power_of_two"),
}

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
        nearest_levels(rows, scale, low, high, out=buffer)
        error = buffer.mul_(scale).sub_(rows).square_().sum(1, keepdim=True)
        better = error < best_error
        best = torch.where(better, scale, best)
        best_error = torch.where(better, error, best_error)
    for _ in range(REFINEMENTS):
        nearest_levels(rows, best, low, high, out=buffer)
        power = buffer.square().sum(1, keepdim=True)
        fitted = buffer.mul_(rows).sum(1, keepdim=True) / power
        best = torch.where(power > 0, fitted, best)
    return best


@QUANTIZERS.register("uniform")
class UniformQuantizer(Quantizer):
    """Round weights to an integer grid with one scale per output channel.

    The level of a weight is ``round(w / s)``, ties to even, clipped to ``grid(bits)``; its code is the level's
    distance from the lowest one. One bit keeps the sign alone, with ``s = mean|w|``, which is the least squared error
    (Rastegari et al. 2016, arXiv:1603.05279, section 3.1); ``weight_range`` has no say there.
    The gradient passes the rounding and the clipping unchanged (straight-through, arXiv:1308.3432).

    Asymmetric grids have the same number of levels and an own lowest one per scale (``compress.quantizers.shifted``);
    zero stays a level, so a device that multiplies int8 by int8 needs no zero point for weights. One and eight bits
    are symmetric anyway: with one there is no zero, with eight the levels would leave int8.

    Source: Krishnamoorthi 2018, arXiv:1806.08342, section 2.2.

    Of the plan's numerics it reads ``weight_granularity``, ``weight_symmetry``, ``weight_range`` (``max`` or ``mse``)
    and ``scale_format`` (``float32`` or ``power_of_two``).
    """

    arithmetic: ClassVar[Arithmetic] = Arithmetic.INTEGER
    bit_widths: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 5, 6, 7, 8)
    idempotent: ClassVar[bool] = True
    scale: Tensor
    lowest: Tensor

    def __init__(self, bits: int, numerics: Numerics | None = None) -> None:
        super().__init__(bits, numerics)
        for name, known in OPTIONS.items():
            if getattr(self.numerics, name) not in known:
                raise InputError(f"numerics.{name}", f"must be {' or '.join(known)}", getattr(self.numerics, name))
        self._scale_rule = WEIGHT_RANGES.get(self.numerics.weight_range)
        self.low, self.high = grid(bits)
        self.separable = self.numerics.weight_granularity != "group"
        self._shifted = self.numerics.weight_symmetry == "asymmetric" and bits in SHIFTED_BITS
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("lowest", torch.full((1,), float(self.low)))

    def fit(self, weight: Tensor) -> None:
        """Choose the scales, and where the levels of each lie."""
        rows, shape = self._rows(weight.detach().float())
        if self._shifted:
            scale, lowest = shifted_grid(
                rows,
                self.bits,
                clip=self.numerics.weight_range == "mse",
                power_of_two=self.numerics.scale_format == "power_of_two",
            )
            self.scale, self.lowest = scale.reshape(shape), lowest.reshape(shape)
            return
        scale = rows.abs().mean(1) if self.bits == 1 else self._scale_rule(rows, self.low, self.high).squeeze(1)
        scale = power_of_two(scale) if self.numerics.scale_format == "power_of_two" else scale
        self.scale = scale.reshape(shape)
        self.lowest = torch.full_like(self.scale, self.low)

    def forward(self, weight: Tensor) -> Tensor:
        """Return ``weight`` on its grid, in weight units."""
        rounded = (self._levels(weight) * self._spread(self.scale, tuple(weight.shape))).to(weight.dtype)
        if not weight.requires_grad:
            return rounded
        return rounded + (weight - weight.detach())  # the bracket is zero and carries the gradient

    def encode(self, weight: Tensor) -> Codes:
        """Return codes in the weight's own order and the scales."""
        levels = self._levels(weight)
        codes = levels > 0 if self.bits == 1 else levels - self._spread(self.lowest, tuple(weight.shape))
        parameters = {"scale": self.scale, "lowest": self.lowest} if self._shifted else {"scale": self.scale}
        return Codes(values=codes.to(torch.uint8).flatten(), parameters=parameters, shape=tuple(weight.shape))

    def decode(self, codes: Codes) -> Tensor:
        """Return levels times scales."""
        return self._stored_levels(codes).float() * self._spread(codes.parameters["scale"], codes.shape)

    def layout(self, shape: tuple[int, ...]) -> CodeLayout:
        """Return one code per weight, and one scale (asymmetric: and lowest level) per channel, tensor or group."""
        scales = self._scale_shape(shape)
        parameters = {"scale": scales, "lowest": scales} if self._shifted else {"scale": scales}
        return CodeLayout(codes=prod(shape), bits=self.bits, parameters=parameters)

    def integers(self, codes: Codes) -> IntegerWeight | None:
        """Return the levels and scales; an all-zero channel has scale 1 (runtimes want positive ones)."""
        scale = codes.parameters["scale"]
        if scale.ndim > 1 and scale.shape[1] > 1:
            return None
        scale = scale.flatten()
        dead = scale == 0
        values = self._stored_levels(codes)
        if dead.any():
            values = torch.where(self._spread(dead, codes.shape), torch.zeros_like(values), values)
        return IntegerWeight(values=values, scale=torch.where(dead, 1.0, scale))

    def _scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.numerics.weight_granularity == "tensor":
            return (1,)
        if self.numerics.weight_granularity == "channel":
            return (shape[0],)
        return shape[0], -(-prod(shape[1:]) // GROUP)

    def _rows(self, weight: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Return the weights of each scale as a row, and the scales' shape; a last group is filled up with zeros."""
        shape = self._scale_shape(tuple(weight.shape))
        if len(shape) == 1:
            return weight.reshape(shape[0], -1), shape
        flat = weight.reshape(shape[0], -1)
        return F.pad(flat, (0, shape[1] * GROUP - flat.shape[1])).reshape(-1, GROUP), shape

    def _levels(self, weight: Tensor) -> Tensor:
        fixed = weight.detach().float()
        if self.bits == 1:
            return torch.where(fixed >= 0, 1.0, -1.0)
        shape = tuple(weight.shape)
        scale = self._spread(self.scale, shape)
        if not self._shifted:
            return nearest_levels(fixed, scale, self.low, self.high, out=torch.empty_like(fixed))
        lowest = self._spread(self.lowest, shape)
        steps = torch.round(fixed / torch.where(scale > 0, scale, 1.0))
        return torch.minimum(torch.maximum(steps, lowest), lowest + (2**self.bits - 1))

    def _stored_levels(self, codes: Codes) -> Tensor:
        values = codes.values.reshape(codes.shape).to(torch.int16)
        if self.bits == 1:
            return (2 * values - 1).to(torch.int8)
        lowest = self._spread(codes.parameters["lowest"], codes.shape).to(torch.int16) if self._shifted else self.low
        return (values + lowest).to(torch.int8)

    @staticmethod
    def _spread(parameter: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return one parameter per scale in a shape that goes with the weight's."""
        if parameter.ndim == 1:
            return parameter.reshape(-1, *(1,) * (len(shape) - 1))
        return parameter.repeat_interleave(GROUP, 1)[:, : prod(shape[1:])].reshape(shape)
