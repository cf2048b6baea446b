"""Cross-layer equalisation: neighbouring layers trade scale, channel by channel, so that each wastes fewer levels."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compress.network.graph import Network, Node
from compress.repair import ChannelStatistics

EQUALISATIONS = ("none", "cross_layer")
SWEEPS = 20
"""Passes over all pairs: in a chain a layer's second pair undoes part of what its first one did."""
SETTLED = 1e-3
"""Largest change of a factor in a sweep after which nothing is gained by another."""

_HOMOGENEOUS = frozenset({"relu", "leaky_relu", "prelu"})
"""Activations with ``f(a x) = a f(x)`` for positive ``a``. ReLU6 and smooth ones are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two layers and the values between them: only they are scaled."""

    first: Node
    second: Node
    values: tuple[str, ...]


def equalised(network: Network) -> tuple[Network, dict[str, Tensor]]:
    """Return the same function with weight ranges matched between layers, and what each value is divided by.

    Output channel ``i`` of a layer is divided by ``s_i`` and what the next layer reads of it multiplied by ``s_i``,
    where ``s_i = sqrt(r1_i / r2_i)`` and ``r`` is the largest weight of the channel on either side: both ranges become
    ``sqrt(r1_i r2_i)``. Pairs are convolutions and fully connected layers with nothing but an activation that is
    positively homogeneous between them; a depthwise convolution in between takes part in two pairs. Channels that
    are zero on a side stay as they are.

    Source: Nagel, van Baalen, Blankevoort, Welling 2019, arXiv:1906.04721, section 4.1.

    Args:
        network: Batch norm folded; not on the ``meta`` device.

    Returns:
        The network, and the factors by value name, ``(channels,)`` float32: ``statistics`` divides by them.
    """
    tensors = dict(network.tensors)
    found = pairs(network)
    factors: dict[str, Tensor] = {}
    for _ in range(SWEEPS if found else 0):
        largest = 0.0
        for pair in found:
            scale = _traded(pair, tensors)
            largest = max(largest, float((scale - 1).abs().max()))
            for value in pair.values:
                factors[value] = factors.get(value, torch.ones_like(scale)) * scale
        if largest < SETTLED:
            break
    return replace(network, tensors=tensors), factors


def scaled_statistics(
    statistics: Mapping[str, ChannelStatistics], factors: Mapping[str, Tensor]
) -> dict[str, ChannelStatistics]:
    """Return the statistics that values have once they are divided by ``factors``."""
    return {
        name: ChannelStatistics(mean=known.mean / factors[name], std=known.std / factors[name])
        if name in factors
        else known
        for name, known in statistics.items()
    }


def pairs(network: Network) -> list[Pair]:
    """Return the pairs that can trade scale, in execution order."""
    graph = network.graph
    consumers = graph.consumers()
    uses = Counter(name for node in graph.nodes for name in (*node.parameters.values(), *node.inputs))
    found = []
    for node in graph.nodes:
        if not _scalable(node, network, uses):
            continue
        values, reader = [node.outputs[0]], _only_reader(node.outputs[0], consumers, graph.outputs)
        while reader is not None and reader.op in _HOMOGENEOUS:
            values.append(reader.outputs[0])
            reader = _only_reader(reader.outputs[0], consumers, graph.outputs)
        if reader is None or reader.op != node.op or not _scalable(reader, network, uses):
            continue  # a fully connected layer behind a convolution reads along another axis
        if _read(reader, network) == _written(node, network):
            found.append(Pair(first=node, second=reader, values=tuple(values)))
    return found


def _traded(pair: Pair, tensors: dict[str, Tensor]) -> Tensor:
    """Scale both layers of a pair; return what the values between them are divided by."""
    first, second = pair.first.parameters["weight"], pair.second.parameters["weight"]
    depthwise = _is_depthwise(pair.second, tensors[second])
    rows = tensors[first].flatten(1).abs().amax(1)
    columns = tensors[second].abs().transpose(0, 0 if depthwise else 1).flatten(1).amax(1)
    usable = (rows > 0) & (columns > 0)
    scale = torch.where(usable, torch.sqrt(rows / torch.where(usable, columns, 1.0)), 1.0)
    tensors[first] = tensors[first] / scale.reshape(-1, *[1] * (tensors[first].ndim - 1))
    if "bias" in pair.first.parameters:
        tensors[pair.first.parameters["bias"]] = tensors[pair.first.parameters["bias"]] / scale
    shape = [1] * tensors[second].ndim
    shape[0 if depthwise else 1] = -1
    tensors[second] = tensors[second] * scale.reshape(shape)
    return scale


def _scalable(node: Node, network: Network, uses: Counter[str]) -> bool:
    if node.op not in ("conv", "linear") or any(uses[name] > 1 for name in node.parameters.values()):
        return False
    return node.op == "linear" or node.attributes["groups"] == 1 or _is_depthwise(node, _weight(node, network))


def _is_depthwise(node: Node, weight: Tensor) -> bool:
    return node.op == "conv" and node.attributes["groups"] == weight.shape[0] != 1 and weight.shape[1] == 1


def _only_reader(value: str, consumers: Mapping[str, list[Node]], outputs: tuple[str, ...]) -> Node | None:
    readers = consumers[value]
    return readers[0] if len(readers) == 1 and value not in outputs and readers[0].inputs[0] == value else None


def _read(node: Node, network: Network) -> int:
    weight = _weight(node, network)
    return weight.shape[0] if _is_depthwise(node, weight) else weight.shape[1]


def _written(node: Node, network: Network) -> int:
    return _weight(node, network).shape[0]


def _weight(node: Node, network: Network) -> Tensor:
    return network.tensors[node.parameters["weight"]]
