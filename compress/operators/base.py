"""The interface of operators, and putting what they build in the place of blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from compress.network.blocks import Block
from compress.network.cutting import Follows, Source
from compress.network.graph import Network, Node
from compress.network.ties import Units
from compress.plan import Parameter
from compress.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What stands in a block's place.

    ``nodes`` read the block's entry and write its exit, or nothing does and readers of the exit read
    ``exit_becomes``. ``tensors`` and ``shapes`` are those that the network does not have yet. ``follows`` says which
    axes of them have the channels of which axis of an original tensor or value, so that channel groups reach them.
    ``holds`` are axes of original tensors or values whose channels must all stay: what stands there hangs on all of
    them, so the groups that they belong to are not cut. ``ties`` are such axes of which some channels can go if those
    that are made of them go, too: the unit of every position.
    """

    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    follows: Follows = field(default_factory=dict)
    holds: frozenset[tuple[str, int]] = frozenset()
    ties: Mapping[tuple[str, int], Units] = field(default_factory=dict)
    exit_becomes: str | None = None


class Operator(Protocol):
    """Builds replacements of blocks, with weights that come from the original block.

    ``parameters`` maps the name of each parameter that a plan may give to its offered values, cheapest first; the
    last one is the default. New layers are named ``<layer>/<role>`` after the layer in whose place they stand.
    ``whole_stages`` tells operators that replace stages (``compress.network.stages``) from those of blocks.
    """

    parameters: Mapping[str, tuple[Parameter, ...]]
    whole_stages: bool = False

    def fits(self, block: Block, network: Network) -> str | None:
        """Return why the operator cannot stand in the block's place, ``None`` if it can."""
        ...

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return what stands in the block's place.

        Args:
            block: A block that fits.
            network: The network, batch norm folded; on the ``meta`` device only shapes count.
            parameters: A value for every name in ``self.parameters``.
        """
        ...


OPERATORS: Registry[Operator] = Registry("operator", group="tightfit.operators")


def apply_operators(network: Network, replacements: Sequence[tuple[Block, Replacement]]) -> tuple[Network, Follows]:
    """Return the network with blocks replaced, and which axes of new tensors and values have whose channels.

    The blocks must not overlap.
    """
    if not replacements:
        return network, {}
    graph = network.graph
    place: dict[str, tuple[Node, ...]] = {}  # name of a replaced node → what stands there
    tensors, shapes = dict(network.tensors), dict(graph.shapes)
    follows: dict[str, Mapping[int, Source | tuple[str, int]]] = {}
    renamed: dict[str, str] = {}
    for block, replacement in replacements:
        names = set(block.nodes)
        old = [node for node in graph.nodes if node.name in names]
        place.update((node.name, ()) for node in old)
        place[old[-1].name] = replacement.nodes
        for node in old:
            for value in node.outputs:
                del shapes[value]
        shapes.update(
            {
                value: graph.shapes[value]
                for node in replacement.nodes
                for value in node.outputs
                if value in graph.shapes
            }
        )
        shapes.update(replacement.shapes)
        tensors.update(replacement.tensors)
        follows.update(replacement.follows)
        if replacement.exit_becomes is not None:
            renamed[block.exit] = replacement.exit_becomes
    nodes = [new for node in graph.nodes for new in place.get(node.name, (node,))]
    if renamed:
        nodes = [_reading(renamed, node) if not renamed.keys().isdisjoint(node.inputs) else node for node in nodes]
    changed = Network(graph=replace(graph, nodes=tuple(nodes), shapes=shapes), tensors=tensors)
    return changed.used(), follows


def _reading(renamed: Mapping[str, str], node: Node) -> Node:
    """Follow renamings to their end: skipped blocks may stand in a row."""
    inputs = list(node.inputs)
    for index, value in enumerate(inputs):
        while value in renamed:
            value = renamed[value]
        inputs[index] = value
    return replace(node, inputs=tuple(inputs))
