"""Smaller kernels."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from compress.network.blocks import Block
from compress.network.graph import Network, Node
from compress.operators.base import OPERATORS, Replacement
from compress.operators.layers import Rebuilding, dense_convolutions, inside, integers
from compress.plan import Parameter


class Kernel:
    """Takes rings of taps off the kernels of every dense convolution.

    A ``k×k`` kernel becomes ``(k - less_taps)×(k - less_taps)``, at least ``1×1`` (``<layer>/kernel``), with as much
    less padding. The taps that go are added to the nearest one that stays: neighbouring pixels are alike, so the
    response to what varies slowly stays (and to a constant image it stays exactly, away from the border).
    """

    parameters: Mapping[str, tuple[Parameter, ...]] = {"less_taps": (4, 2)}
    whole_stages = False

    def fits(self, block: Block, network: Network) -> str | None:
        """Fits blocks with a padded dense convolution of odd kernel size."""
        if _eligible(block, network):
            return None
        return f"{block.name} has no dense convolution with a padded kernel of odd size above 1"

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return the block's nodes with smaller kernels."""
        eligible = {node.name for node in _eligible(block, network)}
        made = Rebuilding(network)
        for node in inside(block, network):
            if node.name in eligible:
                _shrink(made, node, int(parameters["less_taps"]) // 2)
            else:
                made.nodes.append(node)
        return made.replacement()


def _shrink(made: Rebuilding, node: Node, rings: int) -> None:
    name = node.parameters["weight"]
    weight = made.network.tensors[name]
    off = [min(rings, size // 2) for size in weight.shape[2:]]
    steps = {key: integers(node, key) for key in ("stride", "padding", "dilation")}
    steps["padding"] = tuple(
        have - ring * step for have, ring, step in zip(steps["padding"], off, steps["dilation"], strict=True)
    )
    layer = f"{node.name}/kernel"
    smaller = made.tensor(f"{layer}.weight", _smaller(weight, off), {0: (name, 0), 1: (name, 1)})
    made.convolution(layer, node.inputs[0], smaller, node.parameters.get("bias"), output=node.outputs[0], steps=steps)


def _eligible(block: Block, network: Network) -> list[Node]:
    found = []
    for node in dense_convolutions(block, network, kernels=True):
        sizes = network.tensors[node.parameters["weight"]].shape[2:]
        reach = [step * (size // 2) for size, step in zip(sizes, integers(node, "dilation"), strict=True)]
        enough = all(have >= need for have, need in zip(integers(node, "padding"), reach, strict=True))
        if enough and all(size % 2 for size in sizes):
            found.append(node)
    return found


def _smaller(weight: Tensor, off: Sequence[int]) -> Tensor:
    """Return the weight without ``off`` rings, what they held added to their nearest taps."""
    for axis, rings in enumerate(off, start=2):
        size = weight.shape[axis]
        places = (torch.arange(size) - rings).clamp(0, size - 2 * rings - 1)
        shape = [*weight.shape]
        shape[axis] = size - 2 * rings
        if weight.is_meta:
            weight = weight.new_empty(shape)
        else:
            weight = weight.new_zeros(shape).index_add(axis, places.to(weight.device), weight)
    return weight


OPERATORS.register("kernel")(Kernel())
