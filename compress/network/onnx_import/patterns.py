"""What an exporter takes apart or throws together, put right in the translated network.

A sigmoid times its input is one kernel on a device, a layer norm of nine nodes is one operator to a pruner. Every
pattern ends in one node (its last) and swallows nodes whose results nothing else reads. The new node takes the last
node's name, unless it is a layer: that keeps the name of the node with the weight.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor

from compress.network.graph import Network, Node
from compress.network.onnx_import.matching import Pattern, View
from compress.network.onnx_import.patterns_activation import gelu, hard_sigmoid, hard_swish, silu
from compress.network.onnx_import.patterns_layer import biased_linear, group_norm, layer_norm

PATTERNS: tuple[Pattern, ...] = (hard_sigmoid, hard_swish, silu, gelu, layer_norm, group_norm, biased_linear)


def recognise_patterns(network: Network) -> Network:
    """Return the network with known patterns put together and without what no output needs."""
    network = without_dead_nodes(network)
    for pattern in PATTERNS:
        network = _rewrite(network, pattern)
    return _unshare_vectors(network)


def without_dead_nodes(network: Network) -> Network:
    """Return the network without nodes, values and tensors that its outputs do not depend on."""
    needed = set(network.graph.outputs)
    kept = []
    for node in reversed(network.graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return _with_nodes(network, reversed(kept))


def _with_nodes(network: Network, nodes: Iterable[Node]) -> Network:
    graph = network.graph.with_nodes(nodes)
    known = {*graph.inputs, *(value for node in graph.nodes for value in node.outputs)}
    shapes = {name: shape for name, shape in graph.shapes.items() if name in known}
    return Network(graph=replace(graph, shapes=shapes), tensors=network.tensors).used()


def _rewrite(network: Network, pattern: Pattern) -> Network:
    view = View(network)
    swallowed: set[str] = set()
    made: dict[str, Node] = {}
    tensors = dict(network.tensors)
    for node in network.graph.nodes:
        match = pattern(node, view)
        if match is not None and not swallowed & match.swallowed:
            swallowed |= match.swallowed
            made[node.name] = match.made
            tensors.update(match.tensors)
    if not made:
        return network
    nodes = (
        made.get(node.name, node) for node in network.graph.nodes if node.name in made or node.name not in swallowed
    )
    return _with_nodes(replace(network, tensors=tensors), nodes)


def _unshare_vectors(network: Network) -> Network:
    """Give every node vectors of its own.

    Exporters store equal tensors once, so that layers with nothing in common share a bias of zeros. Matrices are left
    alone: where those are equal, the layers do share them.
    """
    taken: set[str] = set()
    tensors = dict(network.tensors)
    nodes = []
    for node in network.graph.nodes:
        parameters = dict(node.parameters)
        for role, name in node.parameters.items():
            if network.tensors[name].ndim == 1 and name in taken:
                parameters[role] = _free_name(f"{name}/{node.name}", tensors)
                tensors[parameters[role]] = network.tensors[name].clone()
            taken.add(name)
        nodes.append(replace(node, parameters=parameters))
    return Network(graph=network.graph.with_nodes(nodes), tensors=tensors)


def _free_name(stem: str, taken: Mapping[str, Tensor]) -> str:
    name = stem
    while name in taken:
        name += "'"
    return name
