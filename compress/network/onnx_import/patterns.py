"""tidy"""

from dataclasses import replace
from compress.network.graph import Network


def recognise_patterns(network: Network) -> Network:
    needed = set(network.graph.outputs)
    kept = []
    for node in reversed(network.graph.nodes):
        if any(v in needed for v in node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    nodes = tuple(reversed(kept))
    values = set(network.graph.inputs) | {v for n in nodes for v in n.outputs}
    g = replace(network.graph, nodes=nodes, shapes={k: v for k, v in network.graph.shapes.items() if k in values})
    return replace(network, graph=g).used()
