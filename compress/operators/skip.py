"""Depth: a residual unit reduced to its shortcut."""

from collections.abc import Mapping
from dataclasses import replace

from compress.network.blocks import Block
from compress.network.graph import Network, Node
from compress.operators.base import OPERATORS, Replacement
from compress.plan import Parameter

_IDEMPOTENT = frozenset({"relu", "clip"})


class Skip:
    """Leaves out a residual unit's main path.

    What stays is the shortcut (nothing, a slice and padding, or a projection) and the activation behind the addition.
    An activation that would repeat the one just before it goes, too: ``relu(relu(x))`` is ``relu(x)``.
    """

    parameters: Mapping[str, tuple[Parameter, ...]] = {}
    whole_stages = False

    def fits(self, block: Block, network: Network) -> str | None:
        """Fits residual units; a unit without shortcut path must not write the network's output."""
        if not block.residual:
            return f"{block.name} is no residual unit"
        if block.identity_shortcut and block.exit in network.graph.outputs:
            return f"{block.name} writes the network's output"
        return None

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return the nodes of the shortcut and the activation."""
        graph = network.graph
        wanted, kept = {block.shortcut}, []
        names = set(block.nodes)
        for node in reversed(graph.nodes):  # from the shortcut's end back to the entry
            if node.name in names and wanted.intersection(node.outputs):
                kept.append(node)
                wanted.update(value for value in node.inputs if value != block.entry)
        nodes = tuple(reversed(kept))
        (joint,) = graph.node(block.joint).outputs
        if joint == block.exit:
            return self._without_activation(block, nodes)
        producer = graph.producer()
        activation = producer[block.exit]
        before = producer.get(block.shortcut)
        repeats = before is not None and (before.op, before.attributes) == (activation.op, activation.attributes)
        if repeats and activation.op in _IDEMPOTENT and block.exit not in graph.outputs:
            return Replacement(nodes=nodes, exit_becomes=block.shortcut)
        moved = _reading(activation, joint, block.shortcut)
        return Replacement(nodes=(*nodes, moved))

    @staticmethod
    def _without_activation(block: Block, nodes: tuple[Node, ...]) -> Replacement:
        if block.identity_shortcut:
            return Replacement(nodes=(), exit_becomes=block.entry)
        *rest, last = nodes
        outputs = tuple(block.exit if value == block.shortcut else value for value in last.outputs)
        return Replacement(nodes=(*rest, replace(last, outputs=outputs)))


def _reading(node: Node, old: str, new: str) -> Node:
    return replace(node, inputs=tuple(new if value == old else value for value in node.inputs))


OPERATORS.register("skip")(Skip())
