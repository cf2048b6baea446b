"""Repair after cutting: every layer's output gets the statistics that it has in the float network.

Cutting channels (or factoring, or skipping) changes the mean and spread of what later layers compute. Where batch norm
is still there its statistics can be estimated anew; once it is folded, as here, the same is done by scaling and
shifting the layer itself, channel by channel, to the float network's mean and standard deviation. All layers are
repaired in one pass over the calibration images, in execution order: each sees inputs that are already repaired.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compress.network.graph import Network, Node
from compress.network.ops import OPS
from compress.runner import run
from compress.structure import Restructured, Structure

MAX_GAIN = 10.0
"""A channel is scaled by at most this, and at least its inverse: some channels hardly vary once others are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatistics:
    """Mean and standard deviation of a value per channel, over images and positions; float32, ``(channels,)`` each.

    Where the standard deviation is zero, repair shifts the channel and does not scale it.
    """

    mean: Tensor
    std: Tensor

    def means_alone(self) -> "ChannelStatistics":
        """Return what makes repair correct biases and nothing else."""
        return replace(self, std=torch.zeros_like(self.std))


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What a layer's output is multiplied by and then shifted by, per channel."""

    gain: Tensor
    shift: Tensor


def channel_statistics(network: Network, images: Tensor) -> dict[str, ChannelStatistics]:
    """Return the statistics of what every layer of the float network writes, by value; one pass over the images.

    Args:
        network: The float network with batch norm folded (``Structure.prepared(network).folded``), so that a layer
            writes what it writes in the restructured network.
        images: Calibration images as the network takes them.
    """
    found: dict[str, ChannelStatistics] = {}

    def observe(name: str, node: Node | None, value: Tensor) -> Tensor:
        if node is not None and OPS[node.op].weighted:
            found[name] = _measured(node, value)
        return value

    run(network, images, observe)
    return found


def targets(
    statistics: Mapping[str, ChannelStatistics], network: Network, structure: Structure, result: Restructured
) -> dict[str, ChannelStatistics]:
    """Return the statistics that layers of a restructured network should have: those of the channels that stay.

    Values of layers that an operator added have none.
    """
    prepared = structure.prepared(network)
    shapes = result.network.graph.shapes
    wanted: dict[str, ChannelStatistics] = {}
    for node in result.network.graph.nodes:
        name = node.outputs[0]
        if not OPS[node.op].weighted or name not in statistics:
            continue
        known = statistics[name]
        mask = prepared.cutter.value_mask(prepared.folded.graph, name, channel_axis(node, shapes[name]), result.kept)
        if mask is not None:
            stays = torch.from_numpy(mask)
            known = ChannelStatistics(mean=known.mean[stays], std=known.std[stays])
        wanted[name] = known
    return wanted


class ChannelRepair:
    """A hook for ``runner.run`` that gives values the statistics wanted, and remembers what it did.

    Args:
        wanted: From ``targets``.
    """

    def __init__(self, wanted: Mapping[str, ChannelStatistics]) -> None:
        self._wanted = wanted
        self.corrections: dict[str, Correction] = {}
        """By name of the layer."""

    def __call__(self, name: str, node: Node | None, value: Tensor) -> Tensor:
        """Return the value with the mean and standard deviation wanted."""
        if node is None or name not in self._wanted or not OPS[node.op].weighted:
            return value
        if node.name not in self.corrections:
            self.corrections[node.name] = self._correction(node, value, self._wanted[name])
        correction = self.corrections[node.name]
        shape = [1] * value.ndim
        shape[channel_axis(node, value.shape)] = -1
        return value * correction.gain.reshape(shape) + correction.shift.reshape(shape)

    def _correction(self, node: Node, value: Tensor, wanted: ChannelStatistics) -> Correction:
        found = _measured(node, value)
        varies = (found.std > 0) & (wanted.std > 0)
        gain = torch.where(varies, wanted.std / found.std, 1.0).clamp(1 / MAX_GAIN, MAX_GAIN)
        # Without a bias there is nowhere to put a shift: adding one would change what the network stores.
        shift = wanted.mean - found.mean * gain if "bias" in node.parameters else torch.zeros_like(gain)
        return Correction(gain=gain, shift=shift)


def corrected(network: Network, corrections: Mapping[str, Correction]) -> Network:
    """Return the network whose layers do what the repair did to their outputs.

    A tensor that several layers share is given to each under a name of its own.
    """
    tensors = dict(network.tensors)
    nodes = []
    uses = [name for node in network.graph.nodes for name in (*node.parameters.values(), *node.inputs)]
    for node in network.graph.nodes:
        correction = corrections.get(node.name)
        if correction is not None:
            renamed = {
                role: name if uses.count(name) == 1 else f"{name}@{node.name}" for role, name in node.parameters.items()
            }
            weight = network.tensors[node.parameters["weight"]]
            tensors[renamed["weight"]] = weight * _per_weight(node, weight, correction.gain)
            if "bias" in node.parameters:
                bias = network.tensors[node.parameters["bias"]]
                tensors[renamed["bias"]] = bias * correction.gain + correction.shift
            node = replace(node, parameters=renamed)
        nodes.append(node)
    return Network(graph=network.graph.with_nodes(nodes), tensors=tensors).used()


def channel_axis(node: Node, shape: tuple[int, ...]) -> int:
    """Return the axis of a layer's output along which its channels lie."""
    return len(shape) - 1 if node.op == "linear" else 1


def _measured(node: Node, value: Tensor) -> ChannelStatistics:
    rows = value.movedim(channel_axis(node, tuple(value.shape)), 0).flatten(1)
    std, mean = torch.std_mean(rows, dim=1, correction=0)
    return ChannelStatistics(mean=mean, std=std)


def _per_weight(node: Node, weight: Tensor, gain: Tensor) -> Tensor:
    """Return the gain in a shape that multiplies the weight's output channels."""
    ones = [1] * (weight.ndim - 2)
    if node.op != "conv_transpose":
        return gain.reshape(-1, 1, *ones)
    groups = node.attributes["groups"]
    if not isinstance(groups, int):
        raise TypeError(f"{node.name}: groups must be an integer, got {groups!r}")
    per_group = gain.reshape(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1)
    return per_group.reshape(weight.shape[0], -1, *ones)
