"""What operators that rebuild layers have in common: which layers, the nodes that they write, and what follows what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType

from torch import Tensor

from compress.network.blocks import Block
from compress.network.cutting import Source
from compress.network.graph import Network, Node
from compress.network.ops import make_node
from compress.network.ties import Units
from compress.operators.base import Replacement

_NO_STEPS: Mapping[str, tuple[int, ...]] = MappingProxyType({})


@dataclass(slots=True)
class Rebuilding:
    """Collects what stands in a block's place while its nodes are gone through in execution order."""

    network: Network
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    follows: dict[str, dict[int, Source | tuple[str, int]]] = field(default_factory=dict)
    holds: set[tuple[str, int]] = field(default_factory=set)
    ties: dict[tuple[str, int], Units] = field(default_factory=dict)

    def tensor(self, name: str, tensor: Tensor, follows: Mapping[int, Source | tuple[str, int]] | None = None) -> str:
        """Add a tensor; ``follows`` as in ``Replacement``."""
        self.tensors[name] = tensor
        if follows:
            self.follows[name] = dict(follows)
        return name

    def value(
        self, name: str, shape: Sequence[int], follows: Mapping[int, Source | tuple[str, int]] | None = None
    ) -> None:
        """State the shape of a value that the network does not have yet."""
        self.shapes[name] = tuple(shape)
        if follows:
            self.follows[name] = dict(follows)

    def convolution(
        self,
        name: str,
        value: str,
        weight: str,
        bias: str | None,
        *,
        output: str | None = None,
        steps: Mapping[str, tuple[int, ...]] = _NO_STEPS,
        groups: int = 1,
    ) -> str:
        """Add a convolution; return the value that it writes.

        ``steps`` has ``stride``, ``padding`` and ``dilation``, by default those of a convolution that has none.
        """
        dims = self.tensors[weight].ndim - 2 if weight in self.tensors else self.network.tensors[weight].ndim - 2
        parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        node = make_node(
            name,
            "conv",
            (value,),
            (output or name,),
            parameters=parameters,
            stride=steps.get("stride", (1,) * dims),
            padding=steps.get("padding", (0,) * dims),
            dilation=steps.get("dilation", (1,) * dims),
            groups=groups,
        )
        self.nodes.append(node)
        return node.outputs[0]

    def replacement(self) -> Replacement:
        """Return all that was collected."""
        return Replacement(
            nodes=tuple(self.nodes),
            tensors=self.tensors,
            shapes=self.shapes,
            follows=self.follows,
            holds=frozenset(self.holds),
            ties=self.ties,
        )


def inside(block: Block, network: Network) -> list[Node]:
    """Return the block's nodes in execution order."""
    names = set(block.nodes)
    return [node for node in network.graph.nodes if node.name in names]


def dense_convolutions(block: Block, network: Network, *, kernels: bool = False) -> list[Node]:
    """Return the block's convolutions without groups, with ``kernels`` only those that are larger than 1×1."""
    return [
        node
        for node in inside(block, network)
        if node.op == "conv"
        and node.attributes["groups"] == 1
        and (not kernels or prod(network.tensors[node.parameters["weight"]].shape[2:]) > 1)
    ]


def integers(node: Node, key: str) -> tuple[int, ...]:
    """Return an attribute that has one integer per spatial dimension."""
    value = node.attributes[key]
    if not isinstance(value, tuple):
        raise TypeError(f"{node.name}: {key} must be integers, got {value!r}")
    return tuple(int(item) for item in value)
