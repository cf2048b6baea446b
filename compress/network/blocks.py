"""Blocks: pieces of the graph with a single entry and a single exit, found from the graph alone.

Residual units: an addition whose two operands come from one common value, with everything between that value and the
addition, and the activation that follows it. And transposed convolutions with a stride, which have an equal form of
several small convolutions. A piece that contains another one is not listed: what stands in a block's place is chosen
block by block, so blocks must not overlap.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from compress.network.graph import Graph, Network, Node
from compress.network.ops import OPS

_TRAILING = frozenset({"relu", "clip", "silu", "gelu", "hard_swish", "leaky_relu", "prelu", "elu", "sigmoid", "tanh"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A piece of the graph that reads only ``entry`` and of which only ``exit`` is read elsewhere.

    ``nodes`` are its nodes' names in execution order. Of a residual unit (``kind`` is ``residual``), ``shortcut`` is
    the operand of the addition ``joint`` that comes along the cheaper branch, ``entry`` itself if
    ``identity_shortcut``. A transposed convolution (``kind`` is ``transposed``) has its batch norm with it; it is the
    ``joint`` itself, and there is no shortcut: an empty name.
    """

    name: str
    kind: str
    entry: str
    exit: str
    nodes: tuple[str, ...]
    joint: str
    shortcut: str

    @property
    def residual(self) -> bool:
        """Whether the block is a residual unit."""
        return self.kind == "residual"

    @property
    def identity_shortcut(self) -> bool:
        """Whether the block's input meets its result unchanged."""
        return self.shortcut == self.entry

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``from_json`` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Block":
        """Rebuild a block from ``to_json``'s data."""
        return cls(**{**data, "nodes": tuple(data["nodes"])})


def blocks(network: Network) -> tuple[Block, ...]:
    """Return the residual units and transposed convolutions of the network in execution order; none overlap."""
    graph = network.graph
    dominators = _Dominators(graph)
    consumers = graph.consumers()
    found: list[Block] = []
    taken: set[str] = set()
    for node in graph.nodes:
        if node.op != "add" or len(set(node.inputs)) != 2 or not all(value in graph.shapes for value in node.inputs):
            continue
        entry = dominators.common(node)
        block = None if entry is None else _residual(network, node, entry, consumers)
        # Additions come in execution order, so a piece that contains another one comes after it.
        if block is not None and not taken.intersection(block.nodes):
            taken.update(block.nodes)
            found.append(block)
    for node in graph.nodes:
        if node.op == "conv_transpose" and node.name not in taken and _has_stride(node):
            found.append(_transposed(graph, node, consumers))
    place = {node.name: number for number, node in enumerate(graph.nodes)}
    return _named(sorted(found, key=lambda block: place[block.joint]))


def _has_stride(node: Node) -> bool:
    stride = node.attributes["stride"]
    return isinstance(stride, tuple) and any(size > 1 for size in stride)


def _transposed(graph: Graph, node: Node, consumers: Mapping[str, list[Node]]) -> Block:
    (exit_,), names = node.outputs, [node.name]
    readers = consumers[exit_]
    if len(readers) == 1 and readers[0].op == "batch_norm" and exit_ not in graph.outputs:
        (exit_,) = readers[0].outputs
        names.append(readers[0].name)
    return Block(
        name=node.name,
        kind="transposed",
        entry=node.inputs[0],
        exit=exit_,
        nodes=tuple(names),
        joint=node.name,
        shortcut="",
    )


class _Dominators:
    """Immediate dominators of the graph's values: the nearest value that every path from the inputs goes through."""

    def __init__(self, graph: Graph) -> None:
        self._parent: dict[str, str | None] = dict.fromkeys(graph.inputs)
        self._depth: dict[str, int] = dict.fromkeys(graph.inputs, 0)
        for node in graph.nodes:
            above = self.common(node)
            for value in node.outputs:
                self._parent[value] = above
                self._depth[value] = 0 if above is None else self._depth[above] + 1

    def common(self, node: Node) -> str | None:
        """Return the nearest value through which everything that the node reads has come."""
        operands = [value for value in node.inputs if value in self._depth]
        if not operands:
            return None
        nearest: str | None = operands[0]
        for value in operands[1:]:
            nearest = self._meet(nearest, value)
        return nearest

    def _meet(self, one: str | None, other: str | None) -> str | None:
        while one != other:
            if one is None or other is None:
                return None
            if self._depth[one] >= self._depth[other]:
                one = self._parent[one]
            else:
                other = self._parent[other]
        return one


def _residual(network: Network, joint: Node, entry: str, consumers: Mapping[str, list[Node]]) -> Block | None:
    graph = network.graph
    between = _between(graph, joint, entry)
    exit_ = joint.outputs[0]
    inside = {joint.name, *between}
    readers = consumers[exit_]
    if len(readers) == 1 and readers[0].op in _TRAILING and exit_ not in graph.outputs:
        inside.add(readers[0].name)
        exit_ = readers[0].outputs[0]
    nodes = tuple(node for node in graph.nodes if node.name in inside)
    for node in nodes:
        for value in node.outputs:
            outside = value in graph.outputs or any(reader.name not in inside for reader in consumers[value])
            if value != exit_ and outside:
                return None
    shape = graph.shapes[joint.outputs[0]]
    shortcut = min(joint.inputs, key=lambda value: _branch_cost(network, value, entry))
    has_layers = any(OPS[node.op].weighted for node in nodes)
    if not has_layers or any(graph.shapes[value] != shape for value in joint.inputs):
        return None
    names = tuple(node.name for node in nodes)
    return Block(
        name=joint.name, kind="residual", entry=entry, exit=exit_, nodes=names, joint=joint.name, shortcut=shortcut
    )


def _between(graph: Graph, last: Node, entry: str) -> set[str]:
    """Return the names of the nodes on the ways from ``entry`` to ``last``, without ``last``."""
    producer = graph.producer()
    seen: set[str] = set()
    waiting = [value for value in last.inputs if value != entry]
    while waiting:
        node = producer.get(waiting.pop())
        if node is not None and node.name not in seen:
            seen.add(node.name)
            waiting.extend(value for value in node.inputs if value != entry)
    return seen


def _branch_cost(network: Network, value: str, entry: str) -> tuple[int, int]:
    """Return weights and nodes on the way from ``entry`` to ``value``."""
    producer = network.graph.producer()
    if value == entry or value not in producer:
        return (0, 0)
    last = producer[value]
    inside = {last.name, *_between(network.graph, last, entry)}
    nodes = [node for node in network.graph.nodes if node.name in inside]
    weights = sum(network.tensors[name].numel() for node in nodes for name in node.parameters.values())
    return weights, len(nodes)


def _named(found: list[Block]) -> tuple[Block, ...]:
    """Name every block after what its nodes' names have in common, if that is enough to tell blocks apart."""
    stems = [_stem(block) for block in found]
    return tuple(
        replace(block, name=stem if stem and stems.count(stem) == 1 else block.joint)
        for block, stem in zip(found, stems, strict=True)
    )


def _stem(block: Block) -> str:
    """Return the leading parts (between dots and slashes) that all the block's node names share."""
    parts = [re.split(r"(?=[./])", name) for name in block.nodes]
    shared = []
    for together in zip(*parts, strict=False):
        if len(set(together)) > 1:
            break
        shared.append(together[0])
    return "".join(shared)
