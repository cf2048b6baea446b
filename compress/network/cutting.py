"""Cutting channels: tensors sliced, shapes recomputed, and attributes that speak of channels rewritten."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from compress.network.graph import Attribute, Graph, Network, Node
from compress.network.groups import ChannelGroup, Member

Kept = npt.NDArray[np.int64]
"""The channels of a group that stay, ascending."""


class Source(NamedTuple):
    """An axis of an original tensor or value, or the positions from ``start`` to ``end`` of it."""

    name: str
    axis: int
    start: int = 0
    end: int | None = None


Follows = Mapping[str, Mapping[int, Source | tuple[str, int]]]
"""Axes of new tensors and values → the axis of an original tensor or value whose channels they have."""


_NOTHING: Follows = MappingProxyType({})


@dataclass(frozen=True)
class _Axis:
    """The members of different groups that share one axis of a tensor or value."""

    members: tuple[tuple[str, Member], ...]

    @cached_property
    def positions(self) -> list[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        return [(group, *member.positions()) for group, member in self.members]

    def removed(self, gone: Mapping[str, int], stays: "_Stays") -> int:
        """Return how many positions go."""
        return sum([member.per_channel * gone[group] for group, member in self.members if group in gone])

    def mask(self, size: int, stays: "_Stays") -> npt.NDArray[np.bool_]:
        """Return which positions stay."""
        mask = np.ones(size, bool)
        for group, where, which in self.positions:
            if group in stays.kept:
                mask[where] = stays[group][which]
        return mask


@dataclass(frozen=True)
class _Part(_Axis):
    """An axis that has the channels of some of another one's positions; how many of these go is no matter of counts."""

    start: int = 0
    end: int = 0

    def removed(self, gone: Mapping[str, int], stays: "_Stays") -> int:
        return int((~self.mask(self.end - self.start, stays)).sum())

    def mask(self, size: int, stays: "_Stays") -> npt.NDArray[np.bool_]:
        whole = 1 + max(int(where.max()) for _, where, _ in self.positions)
        return super().mask(max(whole, self.end), stays)[self.start : self.end]


class _Stays:
    """For every channel of a group whether it stays; worked out when it is first asked for."""

    def __init__(self, groups: Mapping[str, ChannelGroup], kept: Mapping[str, Kept]) -> None:
        self._groups = groups
        self.kept = kept
        self._masks: dict[str, npt.NDArray[np.bool_]] = {}

    def __getitem__(self, group: str) -> npt.NDArray[np.bool_]:
        if group not in self._masks:
            self._masks[group] = np.zeros(self._groups[group].channels, bool)
            self._masks[group][self.kept[group]] = True
        return self._masks[group]


class Cutter:
    """Cuts networks with the same groups again and again; looks the groups' members up once.

    Args:
        groups: The channel groups of the network as it was before its operators were chosen.
    """

    def __init__(self, groups: Iterable[ChannelGroup]) -> None:
        self.groups = {group.name: group for group in groups}
        self._axes = _by_axis(self.groups.values())
        self._touched = {
            group.name: [(member.name, member.axis) for member in (*group.tensors, *group.values)]
            for group in self.groups.values()
        }

    def cut(self, network: Network, kept: Mapping[str, Kept], follows: Follows = _NOTHING) -> Network:
        """Return the network with only the ``kept`` channels of each group named there.

        Members that the network does not have are passed over: an operator has removed them. Tensors on the ``meta``
        device stay there: only their shapes change.
        """
        gone = {name: self.groups[name].channels - len(channels) for name, channels in kept.items()}
        gone = {name: count for name, count in gone.items() if count}
        if not gone:
            return network
        stays = _Stays(self.groups, {name: kept[name] for name in gone})
        axes = self._axes_of(network, gone, stays, follows)
        tensors, before = dict(network.tensors), network.graph.shapes
        shapes = dict(before)
        for name, owners in axes.items():
            if name in shapes:
                shapes[name] = _cut_shape(shapes[name], owners, gone, stays)
            elif tensors[name].is_meta:
                shape = _cut_shape(tensors[name].shape, owners, gone, stays)
                tensors[name] = torch.empty(shape, dtype=tensors[name].dtype, device="meta")
            else:
                tensors[name] = _cut_tensor(tensors[name], owners, stays)
        nodes = [
            self._rewritten(node, axes, before, shapes, stays) if node.op in _REWRITTEN else node
            for node in network.graph.nodes
        ]
        return Network(graph=replace(network.graph, nodes=tuple(nodes), shapes=shapes), tensors=tensors)

    def value_mask(self, graph: Graph, value: str, axis: int, kept: Mapping[str, Kept]) -> npt.NDArray[np.bool_] | None:
        """Return which positions of a value's axis stay, ``None`` if all do; ``graph`` is that before cutting."""
        owner = self._axes.get(value, {}).get(axis)
        return None if owner is None else owner.mask(graph.shapes[value][axis], _Stays(self.groups, kept))

    def _axes_of(
        self, network: Network, gone: Mapping[str, int], stays: _Stays, follows: Follows
    ) -> dict[str, dict[int, _Axis]]:
        """Return every axis of the network that loses positions, with its members."""
        shapes, tensors = network.graph.shapes, network.tensors
        found: dict[str, dict[int, _Axis]] = {}
        for group in gone:
            for name, axis in self._touched[group]:
                if name in shapes or name in tensors:
                    found.setdefault(name, {})[axis] = self._axes[name][axis]
        for name, sources in follows.items():
            for axis, source in sources.items():
                origin = Source(*source)
                owner = self._axes.get(origin.name, {}).get(origin.axis)
                if owner is not None and owner.removed(gone, stays):
                    part = owner if origin.end is None else _Part(owner.members, origin.start, origin.end)
                    found.setdefault(name, {})[axis] = part
        return found

    def _rewritten(
        self,
        node: Node,
        axes: Mapping[str, Mapping[int, _Axis]],
        before: Mapping[str, tuple[int, ...]],
        after: Mapping[str, tuple[int, ...]],
        stays: _Stays,
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
                changes.update(_cut_slice(node, axes[value][axis].mask(old[axis], stays)))
        elif node.op == "pad" and before[node.outputs[0]] != after[node.outputs[0]]:
            changes["padding"] = _cut_padding(node, axes.get(node.outputs[0], {}), before[node.outputs[0]], stays)
        changes = {key: item for key, item in changes.items() if item != node.attributes[key]}
        return replace(node, attributes={**node.attributes, **changes}) if changes else node


_REWRITTEN = frozenset({"conv", "conv_transpose", "reshape", "expand", "split", "slice", "pad"})


def _by_axis(groups: Iterable[ChannelGroup]) -> dict[str, dict[int, _Axis]]:
    owners: dict[str, dict[int, list[tuple[str, Member]]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        for member in (*group.tensors, *group.values):
            owners[member.name][member.axis].append((group.name, member))
    return {name: {axis: _Axis(tuple(of)) for axis, of in axes.items()} for name, axes in owners.items()}


def _cut_shape(
    shape: Iterable[int], axes: Mapping[int, _Axis], gone: Mapping[str, int], stays: _Stays
) -> tuple[int, ...]:
    size = list(shape)
    for axis, owner in axes.items():
        size[axis] -= owner.removed(gone, stays)
    return tuple(size)


def _cut_tensor(tensor: Tensor, axes: Mapping[int, _Axis], stays: _Stays) -> Tensor:
    for axis, owner in axes.items():
        positions = np.flatnonzero(owner.mask(tensor.shape[axis], stays))
        tensor = tensor.index_select(axis, torch.from_numpy(positions).to(tensor.device))
    return tensor


def _cut_padding(node: Node, axes: Mapping[int, _Axis], shape: tuple[int, ...], stays: _Stays) -> tuple[int, ...]:
    """Return a padding with as many zero channels on each side as stay there."""
    padding = list(_integers(node, "padding"))
    for axis, owner in axes.items():
        index = 2 * (len(shape) - 1 - axis)
        if index < len(padding) and (padding[index] > 0 or padding[index + 1] > 0):
            mask = owner.mask(shape[axis], stays)
            before, after = padding[index], padding[index + 1]
            padding[index : index + 2] = int(mask[:before].sum()), int(mask[mask.size - after :].sum())
    return tuple(padding)


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
