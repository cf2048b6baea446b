"""Channel groups: channels that can only be cut together, for any network, as plain data.

A group's channels are interchangeable: cutting any one of them takes the same number of positions from the same
tensors and values. So the shapes of a cut network depend on how many channels stay, never on which. Where a value
mixes channels of different fate (a shortcut that pads sixteen channels to thirty-two), its positions belong to
different groups.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.network.channel_rules import label_channels
from compress.network.channels import ChannelLabels, Labels
from compress.network.graph import Network


@dataclass(frozen=True, slots=True)
class Span:
    """Positions ``start`` … ``start + count * repeat`` hold channels ``channel`` … ``channel + count``.

    Each channel stands ``repeat`` times in a row (a flattened image of 7×7: 49 times).
    """

    start: int
    channel: int
    count: int
    repeat: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An axis of a tensor or of a value, and which of its positions belong to which channel of the group.

    Positions outside the spans belong to other groups, or stay. Every channel has ``per_channel`` positions.
    """

    name: str
    axis: int
    per_channel: int
    spans: tuple[Span, ...]

    def positions(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the positions along the axis and the group's channel at each."""
        where = [np.arange(span.start, span.start + span.count * span.repeat) for span in self.spans]
        which = [np.repeat(np.arange(span.channel, span.channel + span.count), span.repeat) for span in self.spans]
        return np.concatenate(where), np.concatenate(which)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """``channels`` channels that are outputs of ``layers``; named after the first of these.

    ``tensors`` and ``values`` are all that shrinks with the group. Its layers may have channels of other groups, too.
    """

    name: str
    channels: int
    layers: tuple[str, ...]
    tensors: tuple[Member, ...]
    values: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroups:
    """All groups that may be cut, and why the output channels of other layers may not."""

    groups: tuple[ChannelGroup, ...]
    unprunable: Mapping[str, str]

    def group(self, name: str) -> ChannelGroup:
        """Return the group called ``name``; ``KeyError`` if there is none."""
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``from_json`` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ChannelGroups":
        """Rebuild groups from ``to_json``'s data."""
        return cls(
            groups=tuple(
                ChannelGroup(
                    name=row["name"],
                    channels=row["channels"],
                    layers=tuple(row["layers"]),
                    tensors=tuple(_member(member) for member in row["tensors"]),
                    values=tuple(_member(member) for member in row["values"]),
                )
                for row in data["groups"]
            ),
            unprunable=dict(data["unprunable"]),
        )


def _member(row: Mapping[str, Any]) -> Member:
    spans = tuple(Span(**span) for span in row["spans"])
    return Member(name=row["name"], axis=row["axis"], per_channel=row["per_channel"], spans=spans)


def candidate_groups(network: Network) -> ChannelGroups:
    """Return the groups that channel labels give; ``structure.channel_groups`` tries them out before offering them."""
    labels = label_channels(network)
    classes, reasons = labels.classes()
    uses = _uses(labels, classes)
    fates = _fates(uses, int(classes.max(initial=-1)) + 1)
    sources = {layer: classes[own] for layer, own in labels.sources.items()}
    groups: list[ChannelGroup] = []
    grouped: set[int] = set()
    taken: set[str] = set()
    for layer, own in sources.items():
        free = [number for number in dict.fromkeys(own.tolist()) if number not in reasons and number not in grouped]
        by_fate: dict[int, list[int]] = defaultdict(list)
        for number in free:
            by_fate[int(fates[number])].append(number)
        for members in by_fate.values():
            grouped.update(members)
            if len(members) > 1:
                groups.append(_group(_free_name(layer, taken), members, sources, uses))
    cut = {layer for group in groups for layer in group.layers}
    together = "all of its channels can only be cut together"
    unprunable = {
        layer: next((reasons[number] for number in own.tolist() if number in reasons), together)
        for layer, own in sources.items()
        if layer not in cut
    }
    return ChannelGroups(groups=tuple(groups), unprunable=unprunable)


@dataclass(frozen=True, slots=True)
class _Use:
    name: str
    axis: int
    classes: Labels
    is_tensor: bool


def _uses(labels: ChannelLabels, classes: Labels) -> list[_Use]:
    tensors = ((name, axes, True) for name, axes in labels.tensor_axes.items())
    values = ((name, axes, False) for name, axes in labels.axes.items())
    return [
        _Use(name, index, classes[axis], is_tensor)
        for name, axes, is_tensor in (*tensors, *values)
        for index, axis in enumerate(axes)
        if axis is not None
    ]


def _fates(uses: list[_Use], count: int) -> npt.NDArray[np.uint64]:
    """Return a number per class that is equal for classes with equally many positions in every use.

    Each use adds a random multiple (64 bits, always the same ones) of the number of positions.
    """
    fates = np.zeros(count, np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, size=len(uses), dtype=np.uint64)
    for use, factor in zip(uses, factors, strict=True):
        fates += np.bincount(use.classes, minlength=count).astype(np.uint64) * factor
    return fates


def _free_name(layer: str, taken: set[str]) -> str:
    name, count = layer, 1
    while name in taken:
        count += 1
        name = f"{layer}#{count}"
    taken.add(name)
    return name


def _group(name: str, members: list[int], sources: Mapping[str, Labels], uses: list[_Use]) -> ChannelGroup:
    channel_of = np.full(max(int(use.classes.max()) for use in uses) + 1, -1)
    channel_of[members] = np.arange(len(members))
    tensors: list[Member] = []
    values: list[Member] = []
    for use in uses:
        channels = channel_of[use.classes]
        count = int((channels == 0).sum())  # as many as of every other channel of the group
        if count:
            member = Member(name=use.name, axis=use.axis, per_channel=count, spans=tuple(_spans(channels)))
            (tensors if use.is_tensor else values).append(member)
    return ChannelGroup(
        name=name,
        channels=len(members),
        layers=tuple(layer for layer, own in sources.items() if (channel_of[own] >= 0).any()),
        tensors=tuple(tensors),
        values=tuple(values),
    )


def _spans(channels: npt.NDArray[np.int64]) -> Iterable[Span]:
    """Describe the positions whose channel is not -1, in as few spans as a single sweep finds."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(channels)) + 1])
    lengths = np.diff(np.concatenate([starts, [channels.size]]))
    taken = channels[starts] >= 0
    starts, lengths, first = starts[taken], lengths[taken], channels[starts][taken]
    goes_on = (np.diff(first) == 1) & (np.diff(lengths) == 0) & (np.diff(starts) == lengths[:-1])
    heads = np.concatenate([[0], np.flatnonzero(~goes_on) + 1])
    counts = np.diff(np.concatenate([heads, [starts.size]]))
    for head, count in zip(heads.tolist(), counts.tolist(), strict=True):
        yield Span(int(starts[head]), int(first[head]), count, int(lengths[head]))
