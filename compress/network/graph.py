"""A network as data: nodes from a closed list of operators, and the tensors beside them.

This is the one form in which a network travels: the importer writes it, every rewrite (operators, channels, folding,
quantization) maps it to another one, the checkpoint stores it, and ``build.build_module`` makes a runnable
``torch.fx.GraphModule`` of it. It is plain JSON plus named tensors, so nothing is ever unpickled.

Shapes are those of one image: dimension 0 of an activation is the batch and stands as 1. Inside attention the batch may
stand elsewhere or be merged with the heads; it counts as 1 there, too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

SCHEMA_VERSION = 1

Attribute = bool | int | float | str | tuple[int, ...] | tuple[float, ...] | None


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a value's shape without the batch, so that its product is the number of values of one image."""
    return tuple(shape[1:]) if shape[0] == 1 else tuple(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator.

    ``name`` is the node's name in the user's file and is what users see; it is unique. ``inputs`` name values: graph
    inputs, outputs of earlier nodes, or tensors that enter as constants (a position embedding). ``parameters`` maps a
    role (``weight``, ``bias``, ``running_mean``, …) to the name of a tensor. Two nodes may share a tensor.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes in topological order. ``shapes`` has every activation value, graph inputs included."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]

    def producer(self) -> dict[str, Node]:
        """Map each value that a node writes to that node."""
        return {value: node for node in self.nodes for value in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """Map each value to the nodes that read it, in execution order; a graph output may have none."""
        readers: dict[str, list[Node]] = {value: [] for value in self.inputs}
        for node in self.nodes:
            for value in node.outputs:
                readers.setdefault(value, [])
            for value in node.inputs:
                readers.setdefault(value, []).append(node)
        return readers

    def node(self, name: str) -> Node:
        """Return the node called ``name``; ``KeyError`` if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def with_nodes(self, nodes: Iterable[Node]) -> "Graph":
        """Return the graph with other nodes and the same interface."""
        return replace(self, nodes=tuple(nodes))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``from_json`` is the inverse."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Graph":
        """Rebuild a graph from ``to_json``'s data. The caller checks it (``check.check_graph``)."""
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"graph schema_version must be {SCHEMA_VERSION}, got {data['schema_version']}")
        return cls(
            nodes=tuple(
                Node(
                    name=row["name"],
                    op=row["op"],
                    inputs=tuple(row["inputs"]),
                    outputs=tuple(row["outputs"]),
                    attributes={
                        key: tuple(value) if isinstance(value, list) else value
                        for key, value in row["attributes"].items()
                    },
                    parameters=dict(row["parameters"]),
                )
                for row in data["nodes"]
            ),
            inputs=tuple(data["inputs"]),
            outputs=tuple(data["outputs"]),
            shapes={name: tuple(shape) for name, shape in data["shapes"].items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The user's trained float model after ingestion, or any rewrite of it: graph and tensors.

    ``tensors`` holds every parameter and constant that a node names, and nothing else. Tensors may live on the
    ``meta`` device: then the network has shapes and costs but no values.
    """

    graph: Graph
    tensors: Mapping[str, Tensor]

    def to_meta(self) -> "Network":
        """Return the same network without values, for shape and cost work."""
        return replace(self, tensors={name: tensor.to("meta") for name, tensor in self.tensors.items()})

    def used(self) -> "Network":
        """Return the network without the tensors that no node names."""
        names = {name for node in self.graph.nodes for name in (*node.inputs, *node.parameters.values())}
        return replace(self, tensors={name: tensor for name, tensor in self.tensors.items() if name in names})
