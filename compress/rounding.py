"""Rounding weights with an eye on the layer's output instead of each weight by itself."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.adaround import adaround
from compress.network.graph import Node
from compress.plan import Numerics
from compress.quantizers import Quantizer
from compress.weights import CodedWeight
from hwmodels.errors import UnknownNameError

SAMPLES = 8192
"""Most input patches whose products are summed."""
UNFOLDED_VALUES = 1 << 24
"""Most values of all patches that are laid out at once (64 MiB)."""
DAMPING = 0.01
"""Share of the mean diagonal that is added to the diagonal: keeps rarely used inputs from being bent too far."""


WEIGHT_ROUNDINGS = ("nearest", "compensated", "adaround")


class DataRounding:
    """Rounds a layer's weight anew when a pass reaches it and its input is known, if the plan asks for that.

    Weights of transposed convolutions, and of quantizers that do not round every value by itself, stay rounded to
    nearest.

    Args:
        exact: The weights before rounding, by tensor name.
        numerics: The plan's.

    Raises:
        UnknownNameError: The plan names another rounding.
    """

    def __init__(self, exact: Mapping[str, Tensor], numerics: Numerics) -> None:
        if numerics.weight_rounding not in WEIGHT_ROUNDINGS:
            raise UnknownNameError(
                "numerics.weight_rounding", f"must be one of {', '.join(WEIGHT_ROUNDINGS)}", numerics.weight_rounding
            )
        self._exact = exact
        self._numerics = numerics

    def applies_to(self, node: Node) -> bool:
        """Say whether data have a say in rounding the weight of ``node``."""
        return self._numerics.weight_rounding != "nearest" and node.op in ("conv", "linear")

    def coded(self, node: Node, coded: CodedWeight, values: Mapping[str, Tensor]) -> CodedWeight:
        """Return the codes of the layer's weight for the input at hand."""
        quantizer = coded.format.build(self._numerics)
        if not quantizer.separable:
            return coded
        weight = self._exact[node.parameters["weight"]]
        quantizer.fit(weight)
        moments = second_moments(node, weight, values[node.inputs[0]])
        rounded = compensated(weight, quantizer, moments)
        whole = quantizer.integers(coded.codes) if self._numerics.weight_rounding == "adaround" else None
        if whole is not None:
            rounded = adaround(weight, quantizer, whole.scale, moments, other=rounded)
        return replace(coded, codes=quantizer.encode(rounded))


def compensated(weight: Tensor, quantizer: Quantizer, moments: Tensor) -> Tensor:
    """Return ``weight`` on the fitted quantizer's grid, each rounding error made up for by weights not yet rounded.

    Input by input, all output channels at once: round, then shift the remaining weights of the channel so that the
    layer's output changes least, which is least squares with the inputs' second moments as the metric.

    Source: Frantar et al. 2022, arXiv:2210.17323, algorithm 1, without its blocking and reordering.

    Args:
        weight: Of a ``conv`` or ``linear`` node, ``(out, in / groups, ...)``.
        quantizer: Fitted to ``weight``; rounds each value by itself.
        moments: From ``second_moments``.
    """
    rows = weight.detach().float().reshape(len(moments), -1, moments.shape[2]).clone()  # (groups, out, taps)
    upper = _inverse_root(moments)
    rounded = torch.empty_like(rows)
    for tap in range(rows.shape[2]):
        column = rows[:, :, tap]
        rounded[:, :, tap] = quantizer(column.reshape(-1, 1)).reshape(column.shape)
        error = (column - rounded[:, :, tap]) / upper[:, tap, tap, None]
        rows[:, :, tap + 1 :] -= error[:, :, None] * upper[:, tap, None, tap + 1 :]
    return rounded.reshape(weight.shape)


def second_moments(node: Node, weight: Tensor, inputs: Tensor) -> Tensor:
    """Return the mean product of every two inputs of a group: ``(groups, taps, taps)``.

    Args:
        node: A ``conv`` or ``linear``.
        weight: Its weight, ``(out, in / groups, ...)``.
        inputs: What it reads on the calibration images.
    """
    groups = node.attributes.get("groups", 1)
    assert isinstance(groups, int)
    patches = _patches(node, weight, inputs)  # (samples, groups * taps)
    stride = max(1, len(patches) // SAMPLES) | 1  # odd: meets all columns of an image
    patches = patches[::stride]
    grouped = patches.reshape(len(patches), groups, -1).movedim(0, 1)  # (groups, samples, taps)
    return grouped.mT @ grouped / len(patches)


def _patches(node: Node, weight: Tensor, inputs: Tensor) -> Tensor:
    if node.op == "linear":
        return inputs.reshape(-1, inputs.shape[-1])
    if weight.ndim == 3:  # one spatial dimension: a line is an image of height one
        inputs = inputs.unsqueeze(2)
    pairs = {key: _pair(node.attributes[key], fill) for key, fill in (("stride", 1), ("padding", 0), ("dilation", 1))}
    kernel = (1, *weight.shape[2:]) if weight.ndim == 3 else tuple(weight.shape[2:])
    taps = inputs.shape[1] * prod(kernel)
    per_image = taps * prod(inputs.shape[2:]) // prod(pairs["stride"])
    images = inputs[: max(1, UNFOLDED_VALUES // max(1, per_image))]
    unfolded = F.unfold(images, kernel, pairs["dilation"], pairs["padding"], pairs["stride"])  # (images, taps, places)
    return unfolded.movedim(1, 2).reshape(-1, taps)


def _pair(value: object, fill: int) -> tuple[int, ...]:
    assert isinstance(value, tuple)
    return (fill, *value) if len(value) == 1 else value


def _inverse_root(moments: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of the damped moments."""
    moments = moments.double()
    diagonal = moments.diagonal(dim1=-2, dim2=-1)
    damping = (DAMPING * diagonal.mean(-1, keepdim=True)).clamp_min(1e-12)
    damped = moments + torch.diag_embed(damping.expand_as(diagonal))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    root: Tensor = torch.linalg.cholesky(inverse, upper=True).float()
    return root
