"""Blocks with fewer channels inside."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from compress.network.blocks import Block
from compress.network.cutting import Cutter, Kept, Source
from compress.network.graph import Graph, Network
from compress.network.groups import ChannelGroup, candidate_groups
from compress.operators.base import OPERATORS, Replacement
from compress.operators.layers import inside
from compress.plan import Parameter

ROLE = "narrow"


class Width:
    """Keeps a share of the channels that exist only within the block.

    ``width_ratio`` of every channel group that neither entry nor exit sees, rounded, at least one channel: those
    with the largest weights (the L2 norm of all that a channel has in the block). Nodes that get other shapes are named
    ``<node>/narrow``. Cutting such groups on top changes nothing; those of entry and exit are cut as before.
    """

    parameters: Mapping[str, tuple[Parameter, ...]] = {"width_ratio": (0.25, 0.5, 0.75)}
    whole_stages = False

    def fits(self, block: Block, network: Network) -> str | None:
        """Fits blocks that have channels of their own."""
        return None if _groups(block, network) else f"{block.name} has no channels of its own"

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return the block with fewer channels inside."""
        groups = _groups(block, network)
        alone = _alone(block, network)
        kept: dict[str, Kept] = {
            group.name: _largest(group, alone, float(parameters["width_ratio"])) for group in groups
        }
        cut = Cutter(groups).cut(alone, kept)
        members = [member for group in groups for member in (*group.tensors, *group.values)]
        renamed = {member.name: _renamed(member.name, alone) for member in members}
        nodes = tuple(
            replace(
                node,
                name=f"{node.name}/{ROLE}"
                if not renamed.keys().isdisjoint((*node.inputs, *node.outputs, *node.parameters.values()))
                else node.name,
                inputs=tuple(renamed.get(value, value) for value in node.inputs),
                outputs=tuple(renamed.get(value, value) for value in node.outputs),
                parameters={role: renamed.get(name, name) for role, name in node.parameters.items()},
            )
            for node in cut.graph.nodes
        )
        inner = {(member.name, member.axis) for member in members}
        return Replacement(
            nodes=nodes,
            tensors={new: cut.tensors[old] for old, new in renamed.items() if old in cut.tensors},
            shapes={new: cut.graph.shapes[old] for old, new in renamed.items() if old in cut.graph.shapes},
            follows={new: _outer_axes(old, alone, inner) for old, new in renamed.items()},
        )


def _alone(block: Block, network: Network) -> Network:
    """Return the block as a network, from its entry to its exit."""
    nodes = inside(block, network)
    values = {block.entry, *(value for node in nodes for value in node.outputs)}
    shapes = {name: shape for name, shape in network.graph.shapes.items() if name in values}
    graph = Graph(nodes=tuple(nodes), inputs=(block.entry,), outputs=(block.exit,), shapes=shapes)
    return Network(graph=graph, tensors=network.tensors).used()


def _groups(block: Block, network: Network) -> tuple[ChannelGroup, ...]:
    return candidate_groups(_alone(block, network)).groups


def _largest(group: ChannelGroup, network: Network, ratio: float) -> Kept:
    count = max(1, round(ratio * group.channels))
    score = torch.zeros(group.channels, dtype=torch.float64)
    for member in group.tensors:
        tensor = network.tensors[member.name]
        if tensor.is_meta:
            break  # shapes do not depend on which
        where, which = (torch.from_numpy(array) for array in member.positions())
        squares = (
            tensor.to(torch.float64).square().movedim(member.axis, 0).reshape(tensor.shape[member.axis], -1).sum(1)
        )
        score.index_add_(0, which, squares[where])
    chosen = torch.argsort(score, descending=True, stable=True)[:count]
    return chosen.sort().values.numpy()


def _renamed(name: str, network: Network) -> str:
    if name not in network.tensors:
        return f"{name}/{ROLE}"
    layer, _, role = name.rpartition(".")
    return f"{layer}/{ROLE}.{role}" if layer else f"{name}/{ROLE}"


def _outer_axes(name: str, network: Network, inner: set[tuple[str, int]]) -> dict[int, Source]:
    """Return the axes along which nothing was cut: they have the channels that they had."""
    known: Tensor | None = network.tensors.get(name)
    dims = len(network.graph.shapes[name]) if known is None else known.ndim
    return {axis: Source(name, axis) for axis in range(dims) if (name, axis) not in inner}


OPERATORS.register("width")(Width())
