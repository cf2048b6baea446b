"""Cutting channels: tensors sliced, shapes recomputed, and attributes that speak of channels rewritten."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from compress.network.graph import Attribute, Graph, Network, Node
from compress.network.groups import ChannelGroup, Member

Kept = npt.NDArray[np.int64]
"""The channels of a group that stay, ascending."""


@dataclass(frozen=True)
class _Axis:
    """The members of different groups that share one axis of a tensor or value."""

    members: tuple[tuple[str, Member], ...]

    @cached_property
    def positions(self) -> list[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        return [(group, *member.positions()) for group, member in self.members]

    def removed(self, gone: Mapping[str, int]) -> int:
        """Return how many positions go."""
        return sum(member.per_channel * gone.get(group, 0) for group, member in self.members)

    def mask(self, size: int, stays: Mapping[str, npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
        """Return which positions stay."""
        mask = np.ones(size, bool)
        for group, where, which in self.positions:
            if group in stays:
                mask[where] = stays[group][which]
        return mask


class Cutter:
    """Cuts networks with the same groups again and again; looks the groups' members up once.

    Args:
        groups: The channel groups of the network, after its operators were chosen.
    """

    def __init__(self, groups: Iterable[ChannelGroup]) -> None:
        self.groups = {group.name: group for group in groups}
        self._tensors = _by_axis((group.name, member) for group in self.groups.values() for member in group.tensors)
        self._values = _by_axis((group.name, member) for group in self.groups.values() for member in group.values)

    def cut(self, network: Network, kept: Mapping[str, Kept]) -> Network:
        """Return the network with only the ``kept`` channels of each group named there.

        Tensors on the ``meta`` device stay there: only their shapes change.
        """
        gone = {name: self.groups[name].channels - len(channels) for name, channels in kept.items()}
        gone = {name: count for name, count in gone.items() if count}
        if not gone:
            return network
        stays: dict[str, npt.NDArray[np.bool_]] = {}
        for name in gone:
            stays[name] = np.zeros(self.groups[name].channels, bool)
            stays[name][kept[name]] = True
        tensors = dict(network.tensors)
        for name, axes in self._touched(self._tensors, gone):
            if name in tensors:
                tensors[name] = _cut_tensor(tensors[name], axes, gone, stays)
        before = network.graph.shapes
        shapes = dict(before)
        for name, axes in self._touched(self._values, gone):
            if name in shapes:
                size = list(shapes[name])
                for axis, owners in axes.items():
                    size[axis] -= owners.removed(gone)
                shapes[name] = tuple(size)
        nodes = [
            self._rewritten(node, network, before, shapes, stays) if node.op in _REWRITTEN else node
            for node in network.graph.nodes
        ]
        return Network(graph=replace(network.graph, nodes=tuple(nodes), shapes=shapes), tensors=tensors)

    def value_masks(self, graph: Graph, kept: Mapping[str, Kept]) -> dict[tuple[str, int], npt.NDArray[np.bool_]]:
        """Return which positions of every cut axis of every value stay; ``graph`` is that before cutting."""
        stays = {name: np.isin(np.arange(self.groups[name].channels), channels) for name, channels in kept.items()}
        return {
            (name, axis): owners.mask(graph.shapes[name][axis], stays)
            for name, axes in self._values.items()
            if name in graph.shapes
            for axis, owners in axes.items()
        }

    def _touched(
        self, table: Mapping[str, dict[int, _Axis]], gone: Mapping[str, int]
    ) -> Iterable[tuple[str, dict[int, _Axis]]]:
        for name, axes in table.items():
            touched = {axis: owners for axis, owners in axes.items() if owners.removed(gone)}
            if touched:
                yield name, touched

    def _rewritten(
        self,
        node: Node,
        network: Network,
        before: Mapping[str, tuple[int, ...]],
        after: Mapping[str, tuple[int, ...]],
        stays: Mapping[str, npt.NDArray[np.bool_]],
    ) -> Node:
        value = node.inputs[0]
        if value not in before:
            return node  # a constant is moved around
        old, new = before[value], after[value]
        changes: dict[str, Attribute] = {}
        if node.op in ("conv", "conv_transpose"):
            groups = node.attributes["groups"]
            if groups != 1 and groups == old[1]:
                changes["groups"] = new[1]
        elif node.op in ("reshape", "expand"):
            changes["shape"] = tuple(
                size if size in (0, -1) or index == 0 else after[node.outputs[0]][index]
                for index, size in enumerate(_integers(node, "shape"))
            )
        elif node.op == "split" and node.attributes["sizes"] is not None:
            dim = int(_integers(node, "dim")[0])
            changes["sizes"] = tuple(after[output][dim] for output in node.outputs)
        elif node.op == "slice" and old != new:
            (dim,) = _integers(node, "dim")
            axis = dim % len(old)
            if old[axis] != new[axis]:
                changes.update(_cut_slice(node, self._values[value][axis].mask(old[axis], stays)))
        elif node.op == "pad" and before[node.outputs[0]] != after[node.outputs[0]]:
            changes["padding"] = self._cut_padding(node, before, stays)
        changes = {key: item for key, item in changes.items() if item != node.attributes[key]}
        return replace(node, attributes={**node.attributes, **changes}) if changes else node

    def _cut_padding(
        self, node: Node, before: Mapping[str, tuple[int, ...]], stays: Mapping[str, npt.NDArray[np.bool_]]
    ) -> tuple[int, ...]:
        padding = list(_integers(node, "padding"))
        (output,) = node.outputs
        shape = before[output]
        for axis, owners in self._values.get(output, {}).items():
            index = 2 * (len(shape) - 1 - axis)
            if index < len(padding) and (padding[index] > 0 or padding[index + 1] > 0):
                mask = owners.mask(shape[axis], stays)
                padding[index], padding[index + 1] = (
                    int(mask[: padding[index]].sum()),
                    int(mask[shape[axis] - padding[index + 1] :].sum()),
                )
        return tuple(padding)


_REWRITTEN = frozenset({"conv", "conv_transpose", "reshape", "expand", "split", "slice", "pad"})


def _by_axis(members: Iterable[tuple[str, Member]]) -> dict[str, dict[int, _Axis]]:
    owners: dict[str, dict[int, list[tuple[str, Member]]]] = defaultdict(lambda: defaultdict(list))
    for group, member in members:
        owners[member.name][member.axis].append((group, member))
    return {name: {axis: _Axis(tuple(of)) for axis, of in axes.items()} for name, axes in owners.items()}


def _cut_tensor(
    tensor: Tensor, axes: Mapping[int, _Axis], gone: Mapping[str, int], stays: Mapping[str, npt.NDArray[np.bool_]]
) -> Tensor:
    if tensor.is_meta:
        size = list(tensor.shape)
        for axis, owners in axes.items():
            size[axis] -= owners.removed(gone)
        return torch.empty(size, dtype=tensor.dtype, device="meta")
    for axis, owners in axes.items():
        positions = np.flatnonzero(owners.mask(tensor.shape[axis], stays))
        tensor = tensor.index_select(axis, torch.from_numpy(positions).to(tensor.device))
    return tensor


def _cut_slice(node: Node, mask: npt.NDArray[np.bool_]) -> dict[str, Attribute]:
    """Return the bounds between which the same channels lie after the cut."""
    bounds = [int(item) for key in ("start", "end") for item in _integers(node, key)]
    start, end, _ = slice(*bounds).indices(mask.size)
    return {"start": int(mask[:start].sum()), "end": int(mask[:end].sum())}


def _integers(node: Node, key: str) -> tuple[int, ...]:
    value = node.attributes[key]
    if isinstance(value, tuple):
        return tuple(int(item) for item in value)
    if isinstance(value, int):
        return (value,)
    raise TypeError(f"{node.name}: {key} must be integers, got {value!r}")
