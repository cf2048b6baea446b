"""The straight-through baseline, DoReFa and PACT."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from compress.finetune.methods.base import METHODS, ActivationGrid, Method, WeightGrid
from compress.finetune.methods.grids import (
    LEAST_STEP,
    PlainWeight,
    SteppedWeight,
    StraightThroughWeight,
    UniformActivation,
)
from compress.finetune.rounding import FIXED, OUTSIDE, round_weight
from compress.network.graph import Node
from compress.plan import Numerics
from compress.quantizers.uniform import UniformQuantizer
from compress.weights import CodedWeight

PACT_DECAY = 1e-4


@METHODS.register("straight_through")
class StraightThrough(Method):
    """Train the weights alone: scales and ranges stay as post-training quantization found them.

    Source: Bengio et al. 2013, arXiv:1308.3432.
    """

    def weight(self, values: Tensor, coded: CodedWeight, numerics: Numerics) -> WeightGrid:
        """Return the plan's quantizer with fixed parameters."""
        return StraightThroughWeight(values, coded, numerics)

    def activation(self, node: Node, numerics: Numerics) -> ActivationGrid:
        """Return the node's grid, fixed."""
        return UniformActivation(node, numerics, learns=FIXED)


class SquashedWeight(WeightGrid):
    """A weight that ``tanh`` keeps inside its grid: ``t = tanh(w) / max|tanh(w)|`` is rounded, then scaled back.

    The grid of ``t`` is the deployed one, levels around an exact zero with step ``2 / (high - low)`` and so clipped by
    half a step at the upper end; the paper's levels have no zero. The paper leaves the magnitude to a batch norm that
    follows; here a learned gain per channel (or one), which the stored scale takes up, does that.
    """

    grid_parameters = ("log_gain",)

    def __init__(self, values: Tensor, coded: CodedWeight, numerics: Numerics) -> None:
        super().__init__()
        quantizer = coded.format.build(numerics)
        if not isinstance(quantizer, UniformQuantizer):
            raise TypeError(f"tanh needs the uniform quantizer, got {coded.format.quantizer}")
        self._coded, self._numerics = coded, numerics
        self._low, self._high = quantizer.low, quantizer.high
        self.plain = PlainWeight(values)
        step = torch.tensor([2 / (quantizer.high - quantizer.low)])
        self.register_buffer("log_step", step.log())
        scales = coded.codes.parameters["scale"].numel()
        rounded = self._rounded().detach().reshape(scales, -1)
        exact = values.detach().reshape(scales, -1)
        gain = (rounded * exact).sum(1) / rounded.square().sum(1).clamp_min(LEAST_STEP)
        self.log_gain = nn.Parameter(gain.clamp_min(LEAST_STEP).log())

    def forward(self) -> Tensor:
        """Return the weight on its grid."""
        rounded = self._rounded()
        return rounded * self.log_gain.exp().reshape(-1, *(1,) * (rounded.ndim - 1))

    def coded(self) -> CodedWeight:
        """Return the codes of what was rounded; the scales are steps times gains."""
        step = self.get_buffer("log_step").exp()
        quantizer = self._coded.format.build(self._numerics)
        quantizer.scale = step
        codes = quantizer.encode(self._squashed().detach())
        scale = (step * self.log_gain.detach().exp()).contiguous()
        return replace(self._coded, codes=replace(codes, parameters={"scale": scale}))

    def _rounded(self) -> Tensor:
        log_step = self.get_buffer("log_step")
        return round_weight(self._squashed(), log_step, low=self._low, high=self._high, learns=FIXED)

    def _squashed(self) -> Tensor:
        squashed = torch.tanh(self.plain())
        return squashed / squashed.detach().abs().amax().clamp_min(LEAST_STEP)


@METHODS.register("dorefa")
class DoReFa(Method):
    """Squash weights by ``tanh`` before rounding; activations keep their calibrated range.

    The paper clips activations to [0, 1], which its networks are trained to from the start; a trained network's range
    is the calibrated one. Gradients are not quantized.

    Source: Zhou et al. 2016, arXiv:1606.06160, sections 2.2 and 2.3; the grid with zero follows Li et al. 2021
    (MQBench, arXiv:2111.03759).
    """

    def weight(self, values: Tensor, coded: CodedWeight, numerics: Numerics) -> WeightGrid:
        """Return a squashed weight; a quantizer that is not uniform, or whose scale is a power of two, as it is."""
        if not SteppedWeight.fits(coded, numerics) or coded.format.bits == 1 or numerics.scale_format == "power_of_two":
            return StraightThroughWeight(values, coded, numerics)
        return SquashedWeight(values, coded, numerics)

    def activation(self, node: Node, numerics: Numerics) -> ActivationGrid:
        """Return the node's grid, fixed."""
        return UniformActivation(node, numerics, learns=FIXED)


@METHODS.register("pact")
class LearnedClipping(DoReFa):
    """DoReFa's weights, and activations whose bound is learned from the values beyond it.

    The bound starts at the calibrated one and is drawn towards zero by ``PACT_DECAY`` times its square.

    Source: Choi et al. 2018, arXiv:1805.06085, section 3.
    """

    def activation(self, node: Node, numerics: Numerics) -> ActivationGrid:
        """Return a grid whose ends are learned."""
        return UniformActivation(node, numerics, learns=OUTSIDE, decay=PACT_DECAY)
