"""Batch norm folded into the layer before it, as it will be deployed."""

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from compress.network.graph import Network, Node

_FOLDABLE = frozenset({"conv", "conv_transpose", "linear"})


def fold_batch_norm(network: Network) -> Network:
    """Return the same function without the batch norms that directly follow a layer.

    ``y = (Wx + b - mean) * g / sqrt(var + eps) + beta`` becomes one layer with weight ``W * s`` and bias
    ``(b - mean) * s + beta``, where ``s = g / sqrt(var + eps)``; the products are taken in float64. The layer keeps
    its name and the name of its weight tensor, writes the value that the batch norm wrote, and without a bias of its
    own takes the batch norm's tensor name for it: channel groups and statistics of that value stay valid.

    A batch norm stays where the layer's output has other readers, or where a parameter is shared with other nodes.
    """
    graph = network.graph
    consumers = graph.consumers()
    uses = Counter(name for node in graph.nodes for name in (*node.parameters.values(), *node.inputs))
    tensors = dict(network.tensors)
    folded: dict[str, Node] = {}  # name of the layer or batch norm → what stands there
    for node in graph.nodes:
        if node.op not in _FOLDABLE or node.outputs[0] in graph.outputs:
            continue
        readers = consumers[node.outputs[0]]
        if len(readers) != 1 or readers[0].op != "batch_norm":
            continue
        norm = readers[0]
        shared = any(uses[name] > 1 for name in (*node.parameters.values(), *norm.parameters.values()))
        if shared or (node.op == "linear" and len(graph.shapes[node.outputs[0]]) != 2):
            continue
        bias = node.parameters.get("bias", norm.parameters["bias"])
        weight = node.parameters["weight"]
        tensors[weight], tensors[bias] = _folded(node, norm, network)
        folded[node.name] = replace(node, outputs=norm.outputs, parameters={"weight": weight, "bias": bias})
        folded[norm.name] = folded[node.name]
    if not folded:
        return network
    nodes = [folded.get(node.name, node) for node in graph.nodes if node.name not in folded or node.op in _FOLDABLE]
    shapes = dict(graph.shapes)
    for node in graph.nodes:
        if node.name in folded and node.op in _FOLDABLE:
            del shapes[node.outputs[0]]
    return Network(graph=replace(graph, nodes=tuple(nodes), shapes=shapes), tensors=tensors).used()


def _folded(layer: Node, norm: Node, network: Network) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the layer that does both."""
    weight = network.tensors[layer.parameters["weight"]]
    shift = network.tensors[norm.parameters["bias"]]
    if weight.is_meta:
        return weight, shift
    gamma, beta, mean, variance = (
        network.tensors[norm.parameters[role]].to(torch.float64)
        for role in ("weight", "bias", "running_mean", "running_var")
    )
    eps = norm.attributes["eps"]
    if not isinstance(eps, float):
        raise TypeError(f"{norm.name}: eps must be a number, got {eps!r}")
    scale = gamma / torch.sqrt(variance + eps)  # (out,)
    bias = network.tensors[layer.parameters["bias"]].to(torch.float64) if "bias" in layer.parameters else 0.0
    if layer.op == "conv_transpose":  # (in, out / groups, ...): the groups' outputs lie along the input axis
        groups = layer.attributes["groups"]
        if not isinstance(groups, int):
            raise TypeError(f"{layer.name}: groups must be an integer, got {groups!r}")
        per_input = scale.reshape(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1)
        factor = per_input.reshape(weight.shape[0], -1, *([1] * (weight.ndim - 2)))
    else:
        factor = scale.reshape(-1, *([1] * (weight.ndim - 1)))
    return (weight.to(torch.float64) * factor).to(weight.dtype), ((bias - mean) * scale + beta).to(shift.dtype)
