"""Which channel is which: labels that follow every channel through the graph.

Each output channel of a weighted layer starts as a label of its own. Operators carry labels along (a ReLU), join
values (a concatenation), or force two labels to be the same (an addition): labels that are forced together are
channels which can only be cut together. Labels that reach a place from which no channel may go (a graph output, a
softmax over channels, an operator without a rule) are pinned, with the reason.

Following single channels instead of whole layers keeps the offsets over paddings, slices, concatenations and
channel shuffles exact. torch-pruning's dependency graph finds the same couplings between layers, but its indices go
through a padding, slice or shuffle unchanged: for a shortcut padded with two zero channels on either side it cuts
channel 1 of the sum for channel 1 of the shortcut, where 3 is right. It also follows a shuffled network for minutes.
The tests compare the couplings that both find.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from compress.network.graph import Network, Node

Labels = npt.NDArray[np.int64]
Axes = tuple[Labels | None, ...]
"""Labels per axis of a value or tensor; ``None`` where positions along an axis are no channels."""


class ChannelLabels:
    """Labels of all values and tensors of a network, and what is known of them.

    Rules (``channel_rules``) read the axes of a node's inputs, return those of its outputs, and say on the way which
    parameter axes belong to which labels, which labels are one, and which are pinned.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.axes: dict[str, Axes] = {}
        self.tensor_axes: dict[str, list[Labels | None]] = {}
        self.sources: dict[str, Labels] = {}  # weighted layer → its output channels
        self._used: set[tuple[str, int]] = set()  # axes of tensors that some node has spoken of
        self._count = 0
        self._same: list[tuple[Labels, Labels]] = []
        self._pinned: list[tuple[Labels, str]] = []

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value or of a constant."""
        shapes = self.network.graph.shapes
        return tuple(shapes[name]) if name in shapes else tuple(self.network.tensors[name].shape)

    def of(self, name: str) -> Axes:
        """Return the axes of a value or of a constant operand."""
        if name in self.axes:
            return self.axes[name]
        return tuple(self.tensor_axes.get(name) or [None] * len(self.shape(name)))

    def fresh(self, count: int) -> Labels:
        """Return new labels."""
        self._count += count
        return np.arange(self._count - count, self._count, dtype=np.int64)

    def source(self, node: Node, count: int) -> Labels:
        """Return new labels for the output channels of a weighted layer."""
        labels = self.fresh(count)
        self.sources[node.name] = labels
        return labels

    def pin(self, labels: Labels | None, reason: str) -> None:
        """Say that these channels must stay."""
        if labels is not None and labels.size:
            self._pinned.append((labels.reshape(-1), reason))

    def unify(self, first: Labels, second: Labels) -> None:
        """Say that channels at equal positions are one; shapes broadcast."""
        one, other = np.broadcast_arrays(first, second)
        if one is not other:
            self._same.append((one.reshape(-1), other.reshape(-1)))

    def join(self, first: Labels | None, second: Labels | None, reason: str) -> Labels | None:
        """Return the labels of an axis along which two operands meet position by position."""
        if first is None or second is None:
            self.pin(first if second is None else second, reason)
            return first if second is None else second
        self.unify(first, second)
        return first

    def use(self, tensor: str, axis: int, labels: Labels | None) -> None:
        """Say that positions of a tensor's axis belong to these channels, or, without labels, that all must stay."""
        axes = self.tensor_axes.setdefault(tensor, [None] * self.network.tensors[tensor].ndim)
        known = axes[axis]
        if known is not None and labels is not None:
            self.unify(known, labels)
        elif (tensor, axis) in self._used:
            self.pin(known if labels is None else labels, f"{tensor!r} is shared with a layer whose channels stay")
        axes[axis] = known if labels is None else labels
        self._used.add((tensor, axis))

    def is_constant(self, name: str) -> bool:
        """Say whether an operand is a tensor that enters as a constant."""
        return name in self.network.tensors and name not in self.network.graph.shapes

    def classes(self) -> tuple[npt.NDArray[np.int64], dict[int, str]]:
        """Return the class of every label, and for each pinned class the first reason."""
        firsts = np.concatenate([one for one, _ in self._same] or [np.empty(0, np.int64)])
        seconds = np.concatenate([other for _, other in self._same] or [np.empty(0, np.int64)])
        classes = _connected(self._count, firsts, seconds)
        reasons: dict[int, str] = {}
        for labels, reason in self._pinned:
            for number in np.unique(classes[labels]):
                reasons.setdefault(int(number), reason)
        return classes, reasons


def _connected(count: int, firsts: Labels, seconds: Labels) -> Labels:
    """Return the component of each of ``count`` labels that pairs connect, numbered by their first labels.

    Every label points to a lower one of its component, or to itself; pointers are followed and lowered until nothing
    changes. (SciPy's takes longer to import than this to run, in every process of a job that starts after a crash.)
    """
    lowest = np.arange(count, dtype=np.int64)
    while True:
        one, other = lowest[firsts], lowest[seconds]
        if np.array_equal(one, other):
            return np.unique(lowest, return_inverse=True)[1].astype(np.int64)
        np.minimum.at(lowest, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(lowest, lowest[lowest]):
            lowest = lowest[lowest]


def concatenated(labels: ChannelLabels, parts: Sequence[tuple[Labels | None, int]], reason: str) -> Labels | None:
    """Return the labels of parts laid end to end; parts without labels get pinned ones if others have some."""
    if all(part is None for part, _ in parts):
        return None
    pieces = []
    for part, size in parts:
        if part is None:
            part = labels.fresh(size)
            labels.pin(part, reason)
        pieces.append(part)
    return np.concatenate(pieces)


def pin_all(labels: ChannelLabels, axes: Iterable[Labels | None], reason: str) -> None:
    """Pin every label of these axes."""
    for axis in axes:
        labels.pin(axis, reason)


def reshaped(
    labels: ChannelLabels, axes: Axes, before: Sequence[int], after: Sequence[int], reason: str
) -> tuple[Labels | None, ...]:
    """Return the axes of a value after a reshape that keeps the row-major order.

    Axes are matched in the smallest blocks of equal size. Where a labelled axis is split over several, channels are
    forced together until one axis alone tells them apart, so that cutting leaves the result rectangular; the last
    axis of the block is taken unless another one fits as it is.
    """
    result: list[Labels | None] = [None] * len(after)
    old = [axis for axis, size in enumerate(before) if size != 1]
    new = [axis for axis, size in enumerate(after) if size != 1]
    pin_all(labels, (axes[axis] for axis, size in enumerate(before) if size == 1), reason)
    for sources, targets in _blocks(old, new, before, after):
        labelled = [axis for axis in sources if axes[axis] is not None]
        if len(sources) == len(targets) == 1:
            result[targets[0]] = axes[sources[0]]
        elif len(labelled) > 1:
            pin_all(labels, (axes[axis] for axis in labelled), reason)
        elif labelled:
            view = [before[axis] if axis == labelled[0] else 1 for axis in sources]
            whole = np.broadcast_to(_required(axes[labelled[0]]).reshape(view), [before[axis] for axis in sources])
            block = whole.reshape([after[axis] for axis in targets])
            position = _telling_axis(block)
            lines = np.moveaxis(block, position, -1).reshape(-1, block.shape[position])
            labels.unify(lines, lines[0])
            result[targets[position]] = lines[0]
    return tuple(result)


def _blocks(
    old: list[int], new: list[int], before: Sequence[int], after: Sequence[int]
) -> Iterable[tuple[list[int], list[int]]]:
    """Yield matching runs of old and new axes with equal products, as short as possible."""
    i = j = 0
    while i < len(old) and j < len(new):
        sources, targets = [old[i]], [new[j]]
        left, right = before[old[i]], after[new[j]]
        while left != right:
            if left < right:
                i += 1
                sources.append(old[i])
                left *= before[old[i]]
            else:
                j += 1
                targets.append(new[j])
                right *= after[new[j]]
        yield sources, targets
        i, j = i + 1, j + 1


def _telling_axis(block: Labels) -> int:
    """Return the axis along which alone the labels differ, or the last one."""
    for axis in range(block.ndim):
        line = np.moveaxis(block, axis, -1)
        if (line == line.reshape(-1, block.shape[axis])[0]).all():
            return axis
    return block.ndim - 1


def _required(axis: Labels | None) -> Labels:
    if axis is None:
        raise AssertionError("the caller picked a labelled axis")
    return axis
