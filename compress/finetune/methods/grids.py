"""The grids that methods are made of: evenly spaced ones with learned or fixed steps, and any quantizer's own."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from compress.finetune.methods.base import ActivationGrid, WeightGrid
from compress.finetune.rounding import FIXED, round_activation, round_weight
from compress.network.graph import Attribute, Node
from compress.placement import scale_of
from compress.plan import Numerics
from compress.quantizers.uniform import UniformQuantizer
from compress.weights import CodedWeight

LEAST_STEP = 1e-8
CELL_MARGIN = 0.35
"""Share of a step between the next rounding threshold and a weight whose code is not the nearest one.

Such a code was chosen to make up for other weights' errors. Beside the threshold it would return to the nearest level
with the first steps' noise.
"""


def channel_unit(values: Tensor) -> Tensor:
    """Return the root mean square of every output channel, ``(channels, 1, …)``; 1 for an all-zero channel.

    Weights are learned in this unit: an update then means the same to every channel, as it does under batch norm,
    although folding has left channels with very different magnitudes.
    """
    unit = values.detach().flatten(1).square().mean(1).sqrt()
    return torch.where(unit > 0, unit, 1.0).reshape(-1, *(1,) * (values.ndim - 1))


def within_cells(values: Tensor, coded: CodedWeight, quantizer: UniformQuantizer) -> Tensor:
    """Return ``values``, those that would not be rounded to their codes moved into the codes' cells.

    Post-training quantization may have rounded against the nearest level, on purpose; training starts from there.
    """
    codes = coded.codes
    step = codes.parameters["scale"].reshape(-1, *(1,) * (values.ndim - 1))
    levels = codes.values.reshape(codes.shape).float()
    if quantizer.bits == 1:
        return torch.where(levels > 0, values.clamp_min(0.0), torch.where(values < 0, values, -CELL_MARGIN * step))
    levels = levels + quantizer.low
    reach = 0.5 - CELL_MARGIN
    least = torch.where(levels == quantizer.low, -torch.inf, (levels - reach) * step)
    most = torch.where(levels == quantizer.high, torch.inf, (levels + reach) * step)
    nearest = (values / step).round_().clamp_(quantizer.low, quantizer.high)
    return torch.where(nearest == levels, values, torch.maximum(torch.minimum(values, most), least))


class PlainWeight(nn.Module):
    """A float weight in training, in the unit of its channels."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("unit", channel_unit(values))
        self.latent = nn.Parameter(values.detach() / self.get_buffer("unit"))

    def forward(self) -> Tensor:
        """Return the weight, output channels first."""
        return self.latent * self.get_buffer("unit")


class StraightThroughWeight(WeightGrid):
    """Any quantizer with fixed parameters; the gradient is the quantizer's own.

    A uniform one keeps the scales and starts from the codes that post-training quantization found; another one is
    fitted to the float weight.
    """

    def __init__(self, values: Tensor, coded: CodedWeight, numerics: Numerics) -> None:
        super().__init__()
        self._format = coded.format
        self.quantizer = coded.format.build(numerics)
        if isinstance(self.quantizer, UniformQuantizer) and SteppedWeight.fits(coded, numerics):
            self.quantizer.scale = coded.codes.parameters["scale"].clone()
            values = within_cells(values, coded, self.quantizer)
        else:
            self.quantizer.fit(values)
        self.plain = PlainWeight(values)

    def forward(self) -> Tensor:
        """Return the weight on the quantizer's levels."""
        rounded: Tensor = self.quantizer(self.plain())
        return rounded

    def coded(self) -> CodedWeight:
        """Return the quantizer's codes."""
        return CodedWeight(format=self._format, codes=self.quantizer.encode(self.plain().detach()))


class SteppedWeight(WeightGrid):
    """A weight on the grid of ``UniformQuantizer``, its step learned.

    Args:
        values: The float weight to start from, output channels first.
        coded: Its codes after post-training quantization: their scale is the first step.
        numerics: The plan's.
        learns: What moves the step (``compress.finetune.rounding``).
    """

    grid_parameters = ("log_step",)

    def __init__(self, values: Tensor, coded: CodedWeight, numerics: Numerics, *, learns: str) -> None:
        super().__init__()
        quantizer = coded.format.build(numerics)
        if not isinstance(quantizer, UniformQuantizer):
            raise TypeError(f"a learned step needs the uniform quantizer, got {coded.format.quantizer}")
        self._coded, self._numerics = coded, numerics
        self._low, self._high = quantizer.low, quantizer.high
        self._learns = learns
        self._power_of_two = numerics.scale_format == "power_of_two"
        self.plain = PlainWeight(within_cells(values, coded, quantizer))
        self.log_step = nn.Parameter(coded.codes.parameters["scale"].float().clamp_min(LEAST_STEP).log())

    @staticmethod
    def fits(coded: CodedWeight, numerics: Numerics) -> bool:
        """Say whether the weight is on such a grid, with one step per channel or one in all."""
        parameters, channels = coded.codes.parameters, coded.codes.shape[0]
        uniform = isinstance(coded.format.build(numerics), UniformQuantizer)
        return uniform and parameters.keys() == {"scale"} and parameters["scale"].shape in ((1,), (channels,))

    def forward(self) -> Tensor:
        """Return the weight on its grid."""
        return round_weight(self.plain(), self._log_step(), low=self._low, high=self._high, learns=self._learns)

    def coded(self) -> CodedWeight:
        """Return codes with the learned step; an all-zero channel stays zero."""
        quantizer = self._coded.format.build(self._numerics)
        quantizer.scale = self._log_step().detach().exp()
        return replace(self._coded, codes=quantizer.encode(self.plain().detach()))

    def _log_step(self) -> Tensor:
        return in_power_of_two(self.log_step) if self._power_of_two else self.log_step


class UniformActivation(ActivationGrid):
    """One evenly spaced grid for a whole activation.

    Args:
        node: The ``quantize`` node to start from.
        numerics: The plan's.
        learns: What moves the step; with ``fixed`` the gradient alone passes.
        learns_zero: Whether the zero point is learned where the grid has one inside (LSQ+); it is rounded on the way,
            so that it can be stored.
        decay: Weight of the squared step in the loss, in units of the first one (PACT's penalty on its bound).
    """

    grid_parameters = ("log_step", "zero_point")

    def __init__(
        self, node: Node, numerics: Numerics, *, learns: str, learns_zero: bool = False, decay: float = 0.0
    ) -> None:
        super().__init__()
        scale = scale_of(node)
        zero_point, low, high = (_integer(node, key) for key in ("zero_point", "low", "high"))
        self._low, self._high = low, high
        self._learns, self._decay = learns, decay
        self._power_of_two = numerics.scale_format == "power_of_two"
        first = torch.tensor([math.log(scale)])
        self.log_step = nn.Parameter(first, requires_grad=learns != FIXED)
        self.register_buffer("first", first.clone())
        inside = low < zero_point < high and low >= 0  # a signed grid is symmetric and stays so
        self.zero_point = nn.Parameter(torch.tensor([float(zero_point)]), requires_grad=learns_zero and inside)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` on the grid."""
        return round_activation(
            x, self._log_step(), self.zero_point, low=self._low, high=self._high, learns=self._learns
        )

    def attributes(self) -> dict[str, Attribute]:
        """Return the grid as the node's attributes."""
        zero_point = min(max(round(float(self.zero_point.detach())), self._low), self._high)
        return {
            "scale": float(self._log_step().detach().exp()),
            "zero_point": zero_point,
            "low": self._low,
            "high": self._high,
        }

    def penalty(self) -> Tensor | None:
        """Return the weighted square of the step, in units of the first one."""
        if self._decay == 0:
            return None
        return self._decay * (2 * (self.log_step - self.get_buffer("first"))).exp().sum()

    def _log_step(self) -> Tensor:
        return in_power_of_two(self.log_step) if self._power_of_two else self.log_step


def _integer(node: Node, key: str) -> int:
    value = node.attributes[key]
    if not isinstance(value, int):
        raise TypeError(f"{node.name}: {key} must be an integer, got {value!r}")
    return value


def in_power_of_two(log_step: Tensor) -> Tensor:
    """Return the logarithm of the nearest power of two; the gradient passes unchanged."""
    rounded = (log_step.detach() / math.log(2)).round() * math.log(2)
    return log_step + (rounded - log_step).detach()
