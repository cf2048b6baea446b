"""The interface of pruners."""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from compress.network.graph import Network
from compress.network.groups import ChannelGroup, ChannelGroups, Member
from compress.registry import Registry

Scores = Mapping[str, Tensor]
"""One score per channel by group, float64; channels with the highest are kept. Comparable within a group only."""


class Pruner(Protocol):
    """Scores the channels of all groups at once; the whole ranking of a job is one call."""

    def scores(self, network: Network, groups: ChannelGroups, images: Tensor | None = None) -> Scores:
        """Return a score for every channel of every group.

        Args:
            network: The float network, batch norm not folded.
            groups: Its channel groups.
            images: Calibration images; criteria that need none leave them alone.

        Raises:
            InputError: The criterion needs images, or something that the network does not have.
        """
        ...


PRUNERS: Registry[Pruner] = Registry("pruner", group="tightfit.pruners")


def gathered(group: ChannelGroup, member: Member, per_position: Tensor) -> Tensor:
    """Return per channel of the group the sum over its positions along the member's axis."""
    positions, channels = member.positions()
    total = torch.zeros(group.channels, dtype=torch.float64)
    return total.index_add(0, torch.from_numpy(channels), per_position.to(torch.float64)[torch.from_numpy(positions)])


def over_axis(tensor: Tensor, axis: int, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``measure`` of every slice along ``axis``; it maps ``(slices, values)`` to ``(slices,)``."""
    return measure(tensor.detach().to(torch.float64).movedim(axis, 0).flatten(1))
