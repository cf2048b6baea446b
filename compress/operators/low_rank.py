"""Convolutions as a product of two thinner ones."""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from compress.network.blocks import Block
from compress.network.graph import Network, Node
from compress.operators.base import OPERATORS, Replacement
from compress.operators.layers import Rebuilding, dense_convolutions, inside, integers
from compress.plan import Parameter


class LowRank:
    """Factors every dense convolution of the block by a truncated singular value decomposition.

    In the ``channel`` form a ``k×k`` convolution to ``out`` channels becomes a ``k×k`` convolution to ``r`` channels
    (``<layer>/reduce``) and a ``1×1`` convolution to ``out`` channels (``<layer>/expand``): the weight is taken as a
    matrix ``(out, in * k * k)``. In the ``spatial`` form they are ``k×1`` and ``1×k``, the matrix is
    ``(out * k, in * k)``. With the matrix ``U S V`` they start as ``sqrt(S) V`` and ``U sqrt(S)``, cut to the ``r``
    largest singular values: no other pair of this size is nearer to the weight in the Frobenius norm (Eckart and Young
    1936). ``r`` is ``rank_ratio`` times the full rank of the ``channel`` form, rounded, at least 1, taken before
    channels are cut. Layers that would not get fewer multiplications stay as they are.

    Source: Zhang, Zou, He, Sun 2015, arXiv:1505.06798, section 2.1 (``channel``, the linear case, without its data
    term); Jaderberg, Vedaldi, Zisserman 2014, arXiv:1405.3866, section 2, scheme 2 (``spatial``).
    """

    parameters: Mapping[str, tuple[Parameter, ...]] = {
        "form": ("spatial", "channel"),
        "rank_ratio": (0.25, 0.375, 0.5),
    }
    whole_stages = False

    def fits(self, block: Block, network: Network) -> str | None:
        """Fits blocks in which the highest offered rank saves multiplications somewhere."""
        highest = float(self.parameters["rank_ratio"][-1])
        for node in dense_convolutions(block, network, kernels=True):
            if _rank(network.tensors[node.parameters["weight"]], highest, spatial=False):
                return None
        return f"{block.name} has no dense convolution larger than 1×1 that a product would make cheaper"

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return the block's nodes with its convolutions factored."""
        ratio = float(parameters["rank_ratio"])
        eligible = {node.name for node in dense_convolutions(block, network, kernels=True)}
        made = Rebuilding(network)
        for node in inside(block, network):
            weight = network.tensors[node.parameters["weight"]] if node.name in eligible else None
            spatial = parameters["form"] == "spatial" and weight is not None and weight.ndim == 4
            rank = 0 if weight is None else _rank(weight, ratio, spatial=spatial)
            if weight is None or not rank:
                made.nodes.append(node)
            else:
                _factor(made, node, _factors(weight, rank, spatial=spatial), spatial=spatial)
        return made.replacement()


def _factor(made: Rebuilding, node: Node, factors: tuple[Tensor, Tensor], *, spatial: bool) -> None:
    """Write the two layers that stand for one."""
    weight, between = node.parameters["weight"], f"{node.name}/reduce"
    reduce = made.tensor(f"{between}.weight", factors[0], {1: (weight, 1)})
    expand = made.tensor(f"{node.name}/expand.weight", factors[1], {0: (weight, 0)})
    batch, _, *image = made.network.graph.shapes[node.outputs[0]]
    first = {key: integers(node, key) for key in ("stride", "padding", "dilation")}
    second: dict[str, tuple[int, ...]] = {}
    if spatial:
        rest = {"stride": 1, "padding": 0, "dilation": 1}
        second = {key: (rest[key], value[1]) for key, value in first.items()}
        first = {key: (value[0], rest[key]) for key, value in first.items()}
        image[1] = made.network.graph.shapes[node.inputs[0]][3]  # narrowed by the second layer alone
    made.value(between, (batch, factors[0].shape[0], *image))
    made.convolution(between, node.inputs[0], reduce, None, steps=first)
    made.convolution(
        f"{node.name}/expand", between, expand, node.parameters.get("bias"), output=node.outputs[0], steps=second
    )


def _rank(weight: Tensor, ratio: float, *, spatial: bool) -> int:
    """Return the rank, or 0 if the two layers would not be cheaper than the one."""
    outputs, *rest = weight.shape
    inputs = prod(rest)
    rank = max(1, round(ratio * min(outputs, inputs)))
    rows, columns = (outputs * weight.shape[3], prod(weight.shape[1:3])) if spatial else (outputs, inputs)
    return rank if rank * (rows + columns) < outputs * inputs and rank <= min(rows, columns) else 0


def _factors(weight: Tensor, rank: int, *, spatial: bool) -> tuple[Tensor, Tensor]:
    """Return the weights ``(rank, in, *kernel)`` and ``(out, rank, 1, …)``, or with ``k×1`` and ``1×k`` kernels."""
    outputs, inputs, *kernel = weight.shape
    first, second = ([kernel[0], 1], [1, kernel[1]]) if spatial else (kernel, [1] * len(kernel))
    if weight.is_meta:
        return weight.new_empty((rank, inputs, *first)), weight.new_empty((outputs, rank, *second))
    # rows: (out, kernel of the second layer); columns: (in, kernel of the first)
    matrix = weight.permute(0, 3, 1, 2).reshape(outputs * kernel[1], -1) if spatial else weight.reshape(outputs, -1)
    u, s, v = torch.linalg.svd(matrix.to(torch.float64), full_matrices=False)
    root = s[:rank].sqrt()
    reduce = (root[:, None] * v[:rank]).to(weight.dtype).reshape(rank, inputs, *first)
    expand = (u[:, :rank] * root).to(weight.dtype).reshape(outputs, *second[1:], rank).movedim(-1, 1)
    return reduce.contiguous(), expand.reshape(outputs, rank, *second).contiguous()


OPERATORS.register("low_rank")(LowRank())
