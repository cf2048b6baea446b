"""Convolutions as one kernel per input channel, and then a mix of channels."""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from compress.network.blocks import Block
from compress.network.graph import Network, Node
from compress.operators.base import OPERATORS, Replacement
from compress.operators.layers import Rebuilding, dense_convolutions, inside, integers
from compress.plan import Parameter


class DepthwiseSeparable:
    """Splits every dense convolution into a depthwise one and a ``1×1`` one.

    ``<layer>/depthwise`` has the original's kernel, stride, padding and dilation and one kernel per input channel;
    ``<layer>/pointwise`` is ``1×1``. They start as the nearest such pair in the Frobenius norm: of each input
    channel's ``(out, k * k)`` slice of the weight, the largest singular value with its vectors.

    Multiply-accumulates per output pixel: ``c * k² + c * n`` instead of ``c * n * k²``. All channels that can be cut
    before can be cut after.

    Source: Howard et al. 2017, arXiv:1704.04861, section 3.1; the start is the rank-1 case per channel of Guo et al.
    2018, arXiv:1808.05517, section 3.
    """

    parameters: Mapping[str, tuple[Parameter, ...]] = {}
    whole_stages = False

    def fits(self, block: Block, network: Network) -> str | None:
        """Fits blocks with a dense convolution larger than 1×1 that gets cheaper."""
        if _eligible(block, network):
            return None
        return f"{block.name} has no dense convolution larger than 1×1 that a depthwise one would make cheaper"

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return the block's nodes with its convolutions split."""
        eligible = {node.name for node in _eligible(block, network)}
        made = Rebuilding(network)
        for node in inside(block, network):
            if node.name in eligible:
                _split(made, node)
            else:
                made.nodes.append(node)
        return made.replacement()


def _split(made: Rebuilding, node: Node) -> None:
    weight, value = node.parameters["weight"], node.inputs[0]
    first, second = f"{node.name}/depthwise", f"{node.name}/pointwise"
    kernels, mix = _factors(made.network.tensors[weight])
    batch, channels, *_ = made.network.graph.shapes[value]
    made.value(first, (batch, channels, *made.network.graph.shapes[node.outputs[0]][2:]), {1: (weight, 1)})
    steps = {key: integers(node, key) for key in ("stride", "padding", "dilation")}
    made.convolution(
        first, value, made.tensor(f"{first}.weight", kernels, {0: (weight, 1)}), None, groups=channels, steps=steps
    )
    mixed = made.tensor(f"{second}.weight", mix, {0: (weight, 0), 1: (weight, 1)})
    made.convolution(second, first, mixed, node.parameters.get("bias"), output=node.outputs[0])


def _eligible(block: Block, network: Network) -> list[Node]:
    found = []
    for node in dense_convolutions(block, network, kernels=True):
        outputs, inputs, *kernel = network.tensors[node.parameters["weight"]].shape
        if inputs > 1 and prod(kernel) + outputs < outputs * prod(kernel):
            found.append(node)
    return found


def _factors(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights ``(in, 1, *kernel)`` and ``(out, in, 1, …)``."""
    outputs, inputs, *kernel = weight.shape
    ones = [1] * len(kernel)
    if weight.is_meta:
        return weight.new_empty((inputs, 1, *kernel)), weight.new_empty((outputs, inputs, *ones))
    slices = weight.reshape(outputs, inputs, -1).movedim(1, 0).to(torch.float64)  # (in, out, taps)
    u, s, v = torch.linalg.svd(slices, full_matrices=False)
    root = s[:, :1].sqrt()
    kernels = (root * v[:, 0]).to(weight.dtype).reshape(inputs, 1, *kernel)
    mix = (root * u[:, :, 0]).T.to(weight.dtype).reshape(outputs, inputs, *ones)
    return kernels.contiguous(), mix.contiguous()


OPERATORS.register("depthwise_separable")(DepthwiseSeparable())
