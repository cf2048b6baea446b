"""Channels that an operator makes of each other: they stay or go together, where their group allows that."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compress.network.groups import ChannelGroup

Units = npt.NDArray[np.int64]
"""For every position or channel the number of the unit that it belongs to; units are equally large."""


@dataclass(frozen=True)
class Ties:
    """How the groups that some operators write can be cut: ``units`` by group, and those that are ``held``, not cut."""

    units: Mapping[str, Units]
    held: frozenset[str]


def ties(groups: Collection[ChannelGroup], wanted: Mapping[tuple[str, int], Units], nodes: Collection[str]) -> Ties:
    """Return what becomes of the groups whose channels stand on the ``wanted`` axes.

    A group is cut by units if it lies within the ``nodes`` of the operator's block, has one position on the axis for
    each channel, and if half of it is a number of whole units. Any other is held: what else writes its channels knows
    no units. So what becomes of a group depends on no block but one.

    Args:
        groups: All channel groups of the network.
        wanted: The unit of every position on axes of original tensors or values.
        nodes: Names of the block's nodes.
    """
    units: dict[str, Units] = {}
    held: set[str] = set()
    for group in groups:
        for member in (*group.tensors, *group.values):
            labels = wanted.get((member.name, member.axis))
            if labels is None:
                continue
            found = _by_channel(group, member.positions(), labels)
            known = units.get(group.name)
            inside = set(group.layers) <= set(nodes)
            if not inside or found is None or (known is not None and not np.array_equal(known, found)):
                held.add(group.name)
            else:
                units[group.name] = found
    return Ties(units={name: found for name, found in units.items() if name not in held}, held=frozenset(held))


def _by_channel(
    group: ChannelGroup, positions: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], labels: Units
) -> Units | None:
    """Return the unit of every channel, numbered as they come, ``None`` if the group cannot be cut by units."""
    where, which = positions
    if len(where) != len(labels) or not np.array_equal(np.sort(which), np.arange(group.channels)):
        return None
    of_channel = np.empty(group.channels, np.int64)
    of_channel[which] = labels[where]
    _, first, numbers, sizes = np.unique(of_channel, return_index=True, return_inverse=True, return_counts=True)
    if sizes.min() != sizes.max() or group.channels % (2 * int(sizes[0])):
        return None
    ranks: Units = np.argsort(np.argsort(first))
    return ranks[numbers]
