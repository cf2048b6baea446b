"""What a user is shown of a network: its layers, with sizes and multiply-accumulates."""

import math
from dataclasses import dataclass

from compress.network.graph import Network, Node, image_shape
from compress.network.ops import OPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One weighted operator. Shapes are those of one image; ``parameters`` counts weight and bias values.

    A tensor that two layers share counts in both; ``parameter_count`` counts it once.
    """

    name: str
    op: str
    weight_shape: tuple[int, ...]
    parameters: int
    macs: int
    output_shape: tuple[int, ...]  # without the batch


def layers(network: Network) -> tuple[Layer, ...]:
    """Return the layers in execution order; normalisations and products of activations are none."""
    return tuple(
        Layer(
            name=node.name,
            op=node.op,
            weight_shape=tuple(network.tensors[node.parameters["weight"]].shape),
            parameters=sum(network.tensors[name].numel() for name in node.parameters.values()),
            macs=node_macs(node, network),
            output_shape=image_shape(network.graph.shapes[node.outputs[0]]),
        )
        for node in network.graph.nodes
        if OPS[node.op].weighted
    )


def node_macs(node: Node, network: Network) -> int:
    """Return the multiply-accumulates of one image; 0 for what multiplies nothing with a weight or matrix."""
    shapes = network.graph.shapes
    inputs = [shapes[name] if name in shapes else tuple(network.tensors[name].shape) for name in node.inputs]
    weight = node.parameters.get("weight")
    weight_shape = None if weight is None else tuple(network.tensors[weight].shape)
    return OPS[node.op].macs(node, inputs, [shapes[name] for name in node.outputs], weight_shape)


def macs(network: Network) -> int:
    """Return the multiply-accumulates of one image through the whole network."""
    return sum(node_macs(node, network) for node in network.graph.nodes)


def parameter_count(network: Network) -> int:
    """Return how many values training would change: no batch-norm statistics, shared tensors once."""
    trained = {
        name
        for node in network.graph.nodes
        for role, name in node.parameters.items()
        if role not in ("running_mean", "running_var")
    }
    constants = {name for node in network.graph.nodes for name in node.inputs if name in network.tensors}
    return sum(math.prod(network.tensors[name].shape) for name in trained | constants)
