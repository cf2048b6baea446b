"""What patterns are made of: look-ups in a network, and what a match replaces."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from compress.network.graph import Network, Node


@dataclass(frozen=True, slots=True)
class Match:
    """``made`` computes what the nodes called ``swallowed`` do; ``tensors`` are new ones that it names."""

    made: Node
    swallowed: frozenset[str]
    tensors: Mapping[str, Tensor]


class View:
    """Look-ups in a network that stays as it is while patterns are sought."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._producer = network.graph.producer()
        self._readers = network.graph.consumers()

    def made_by(self, value: str, *ops: str) -> Node | None:
        """Return the node that writes ``value`` if it is one of ``ops``."""
        node = self._producer.get(value)
        return node if node is not None and node.op in ops else None

    def inner(self, value: str, *ops: str) -> Node | None:
        """Return the node that writes ``value`` if it is one of ``ops`` and only one node reads it."""
        alone = len(self._readers.get(value, ())) == 1 and value not in self.network.graph.outputs
        return self.made_by(value, *ops) if alone else None

    def readers(self, value: str) -> set[str]:
        """Return the names of the nodes that read ``value``."""
        return {node.name for node in self._readers.get(value, ())}

    def tensor(self, value: str) -> Tensor | None:
        """Return a constant input."""
        return self.network.tensors.get(value)

    def scalar(self, value: str) -> float | None:
        """Return a constant input that is one number."""
        tensor = self.tensor(value)
        return float(tensor) if tensor is not None and tensor.numel() == 1 else None

    def with_scalar(self, node: Node | None) -> tuple[str, float] | None:
        """Return the other operand and the number of a node of two operands, one of which is a number."""
        if node is None:
            return None
        for value, other in (node.inputs, node.inputs[::-1]):
            number = self.scalar(other)
            if number is not None and self.tensor(value) is None:
                return value, number
        return None

    def shape(self, value: str) -> tuple[int, ...]:
        """Return a value's shape."""
        return self.network.graph.shapes[value]


Pattern = Callable[[Node, View], Match | None]


def matched(made: Node, *nodes: Node | None, tensors: Mapping[str, Tensor] | None = None) -> Match:
    """Return the match that puts ``made`` in the place of ``nodes``; the last of them in the graph is its place."""
    return Match(made, frozenset(node.name for node in nodes if node is not None), tensors or {})


def close(number: float, wanted: float) -> bool:
    """Whether two numbers are the same but for rounding to float32."""
    return math.isclose(number, wanted, rel_tol=1e-4)
