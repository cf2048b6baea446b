"""Convolutions as a product of two thinner ones."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from compress.network.blocks import Block
from compress.network.graph import Network, Node
from compress.operators.base import OPERATORS, Replacement
from compress.plan import Parameter


class LowRank:
    """Factors every dense convolution of the block by a truncated singular value decomposition.

    A ``k×k`` convolution to ``out`` channels becomes a ``k×k`` convolution to ``r`` channels (``<layer>/reduce``) and
    a ``1×1`` convolution to ``out`` channels (``<layer>/expand``). With the weight as a matrix ``(out, in * k * k)``,
    ``U S V``, they start as ``sqrt(S) V`` and ``U sqrt(S)``, cut to the ``r`` largest singular values: no other pair of
    this size is nearer to the weight in the Frobenius norm (Eckart and Young 1936). ``r`` is ``rank_ratio`` times the
    full rank, rounded, at least 1, taken before channels are cut. Layers that would not get fewer multiplications
    stay as they are.

    Source: Zhang, Zou, He, Sun 2015, arXiv:1505.06798, section 2.1 (the linear case, without its data term).
    """

    parameters: Mapping[str, tuple[Parameter, ...]] = {"rank_ratio": (0.25, 0.375, 0.5)}

    def fits(self, block: Block, network: Network) -> str | None:
        """Fits blocks in which the highest offered rank saves multiplications somewhere."""
        highest = self.parameters["rank_ratio"][-1]
        if any(_rank(node, network, float(highest)) for node in _convolutions(block, network)):
            return None
        return f"{block.name} has no dense convolution larger than 1×1 that a product would make cheaper"

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return the block's nodes with its convolutions factored."""
        ratio = float(parameters["rank_ratio"])
        eligible = {node.name for node in _convolutions(block, network)}
        nodes: list[Node] = []
        tensors: dict[str, Tensor] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        follows: dict[str, dict[int, tuple[str, int]]] = {}
        inside = set(block.nodes)
        for node in network.graph.nodes:
            if node.name not in inside:
                continue
            rank = _rank(node, network, ratio) if node.name in eligible else 0
            if not rank:
                nodes.append(node)
                continue
            weight, between = node.parameters["weight"], f"{node.name}/reduce"
            reduce, expand = f"{between}.weight", f"{node.name}/expand.weight"
            tensors[reduce], tensors[expand] = _factors(network.tensors[weight], rank)
            batch, _, *image = network.graph.shapes[node.outputs[0]]
            shapes[between] = (batch, rank, *image)
            follows[reduce], follows[expand] = {1: (weight, 1)}, {0: (weight, 0)}
            nodes.append(replace(node, name=between, outputs=(between,), parameters={"weight": reduce}))
            nodes.append(_pointwise(node, between, expand))
        return Replacement(nodes=tuple(nodes), tensors=tensors, shapes=shapes, follows=follows)


def _convolutions(block: Block, network: Network) -> list[Node]:
    inside = set(block.nodes)
    return [
        node
        for node in network.graph.nodes
        if node.name in inside
        and node.op == "conv"
        and node.attributes["groups"] == 1
        and prod(network.tensors[node.parameters["weight"]].shape[2:]) > 1
    ]


def _rank(node: Node, network: Network, ratio: float) -> int:
    """Return the rank, or 0 if the two layers would not be cheaper than the one."""
    outputs, *rest = network.tensors[node.parameters["weight"]].shape
    inputs = prod(rest)
    rank = max(1, round(ratio * min(outputs, inputs)))
    return rank if rank * (outputs + inputs) < outputs * inputs else 0


def _factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the weights ``(rank, in, *kernel)`` and ``(out, rank, 1, …)``."""
    outputs, inputs, *kernel = weight.shape
    ones = [1] * len(kernel)
    if weight.is_meta:
        return weight.new_empty((rank, inputs, *kernel)), weight.new_empty((outputs, rank, *ones))
    u, s, v = torch.linalg.svd(weight.reshape(outputs, -1).to(torch.float64), full_matrices=False)
    root = s[:rank].sqrt()
    reduce = (root[:, None] * v[:rank]).to(weight.dtype).reshape(rank, inputs, *kernel)
    expand = (u[:, :rank] * root).to(weight.dtype).reshape(outputs, rank, *ones)
    return reduce.contiguous(), expand.contiguous()


def _pointwise(node: Node, value: str, weight: str) -> Node:
    ones, zeros = (1,) * len(_sizes(node)), (0,) * len(_sizes(node))
    bias = {"bias": node.parameters["bias"]} if "bias" in node.parameters else {}
    return Node(
        name=f"{node.name}/expand",
        op="conv",
        inputs=(value,),
        outputs=node.outputs,
        attributes={"stride": ones, "padding": zeros, "dilation": ones, "groups": 1},
        parameters={"weight": weight, **bias},
    )


def _sizes(node: Node) -> tuple[float, ...]:
    stride = node.attributes["stride"]
    if not isinstance(stride, tuple):
        raise TypeError(f"{node.name}: stride must be integers, got {stride!r}")
    return stride


OPERATORS.register("low_rank")(LowRank())
