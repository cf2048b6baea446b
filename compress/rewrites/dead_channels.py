"""Channels that are the same for every image, taken out: what they add to later layers goes into biases.

Training with weight decay or batch-norm penalties leaves such channels: a scale of zero behind a layer, or filters of
zeros. A ReLU then makes a constant of them, mostly zero.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from compress.network.build import run_shapes
from compress.network.cutting import Cutter, Kept
from compress.network.graph import Network, Node
from compress.network.groups import ChannelGroup, candidate_groups
from compress.network.ops import OPS
from compress.rewrites.constants import Constants, channel_constants, mixes_channels, without_border
from hwmodels.errors import InputError
from hwmodels.workload import KernelKind

_KEEPS_CHANNELS_APART = frozenset(
    {
        *(name for name, op in OPS.items() if op.kind is KernelKind.ELEMENTWISE),
        *("batch_norm", "instance_norm", "max_pool", "avg_pool", "global_avg_pool", "global_max_pool", "resize"),
        *("concat", "split", "slice", "pad", "flatten", "reshape", "permute", "squeeze", "unsqueeze", "pixel_shuffle"),
    }
)
"""Operators whose other channels do not notice when one is gone."""


def remove_dead_channels(network: Network) -> Network:
    """Return the same function without channels that are constant wherever a layer mixes them with others.

    A channel of a group is dead if each layer that reads it can do without: it is zero there, or a constant whose share
    of the layer's output is the same everywhere (a linear layer, a convolution without padding) and goes into the bias.
    Channels that a normalisation over channels or a product of activations reads stay. One channel of a group always
    stays. Networks on the ``meta`` device come back as they are: whether a channel is dead is for the values to say.
    """
    if any(tensor.is_meta for tensor in network.tensors.values()):
        return network
    constants = channel_constants(network)
    if not constants:
        return network
    groups = candidate_groups(network).groups
    kept: dict[str, Kept] = {}
    for group in groups:
        alive = ~_dead(group, network, constants)
        if not alive.all():
            kept[group.name] = np.flatnonzero(alive) if alive.any() else np.zeros(1, np.int64)
    if not kept:
        return network
    cutter = Cutter(groups)
    cut = cutter.cut(_with_shares_in_biases(network, constants, cutter, kept), kept)
    return cut if _runs(cut, network) else network


def _runs(cut: Network, network: Network) -> bool:
    try:
        shapes = run_shapes(cut).shapes
    except InputError:
        return False
    return dict(shapes) == dict(cut.graph.shapes) and all(
        shapes[name] == network.graph.shapes[name] for name in network.graph.outputs
    )


def _dead(group: ChannelGroup, network: Network, constants: Constants) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which channels of the group no reader needs."""
    consumers = network.graph.consumers()
    dead = np.ones(group.channels, bool)
    for member in group.values:
        where, which = member.positions()
        for node in consumers[member.name]:
            if mixes_channels(node, network) and member.axis == _mixed_axis(node, network):
                known = constants.get(member.name)
                if known is None or member.axis != 1:
                    return np.zeros(group.channels, bool)
                values = known[torch.from_numpy(where)]
                usable = ~values.isnan() if without_border(node) and _owns_bias(node, network) else values == 0
                dead[which[~usable.numpy()]] = False
            elif node.op not in _KEEPS_CHANNELS_APART and not _is_depthwise(node, network):
                return np.zeros(group.channels, bool)
    return dead


def _with_shares_in_biases(network: Network, constants: Constants, cutter: Cutter, kept: Mapping[str, Kept]) -> Network:
    """Return the network whose layers do themselves what constant channels that are about to go add to their output."""
    tensors = dict(network.tensors)
    nodes = []
    for node in network.graph.nodes:
        axis = _mixed_axis(node, network)
        if mixes_channels(node, network) and node.inputs[0] in constants and axis == 1:
            stays = cutter.value_mask(network.graph, node.inputs[0], axis, kept)
            known = constants[node.inputs[0]]
            if stays is not None:
                lost = torch.where(torch.from_numpy(stays), 0.0, known)
                node = _with_share(node, lost, tensors)
        nodes.append(node)
    return replace(network, graph=network.graph.with_nodes(nodes), tensors=tensors)


def _with_share(node: Node, lost: Tensor, tensors: dict[str, Tensor]) -> Node:
    """Add to the layer's bias what the ``lost`` values of its input channels (zero for others) give."""
    if not bool(lost.any()):
        return node
    weight = tensors[node.parameters["weight"]].to(torch.float64)
    share = weight.flatten(2).sum(2) @ lost if weight.ndim > 2 else weight @ lost
    name = node.parameters.get("bias", f"{node.parameters['weight']}/constant")
    before = tensors[name].to(torch.float64) if "bias" in node.parameters else 0.0
    tensors[name] = (before + share).to(tensors[node.parameters["weight"]].dtype)
    return replace(node, parameters={**node.parameters, "bias": name})


def _mixed_axis(node: Node, network: Network) -> int:
    """Return the axis of its input over which a layer sums."""
    return len(network.graph.shapes[node.inputs[0]]) - 1 if node.op == "linear" else 1


def _is_depthwise(node: Node, network: Network) -> bool:
    return node.op in ("conv", "conv_transpose") and not mixes_channels(node, network)


def _owns_bias(node: Node, network: Network) -> bool:
    """Whether weight and bias are this node's alone, and it sees all channels: then its bias can take a share up."""
    if node.attributes.get("groups", 1) != 1:
        return False
    names: Iterable[str] = (
        name for other in network.graph.nodes for name in (*other.parameters.values(), *other.inputs)
    )
    uses = list(names)
    return prod(uses.count(name) for name in node.parameters.values()) == 1
