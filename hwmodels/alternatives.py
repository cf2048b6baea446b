"""Many plans of one network at once: which kernels each plan has, and the channels and widths of its tensors.

A network is cut into blocks, each with alternatives (operators). The kernels of a block's alternative are the same
whatever the other blocks are; what joins blocks is the tensor that one leaves and the next reads. A block that computes
nothing leaves what it was given. So one list of kernels, that of all alternatives of all blocks, stands for every plan,
with a mask each for the plans that have it; figures of plans are arrays over plans.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hwmodels.errors import InputError
from hwmodels.workload import Kernel, Workload

IntArray = NDArray[np.int64]
FLOAT_BITS = 32

Key = tuple[str, int, str]
"""A tensor: the block in which it is written (``""``: none), that block's alternative, and its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEnds:
    """Names of the tensor that a block reads and of the one that others read of it, in the original network."""

    entry: str
    exit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A network and the alternatives of its blocks.

    Attributes:
        networks: The original; then, for each further alternative, the network in which every block that has so many
            has this one. All with the same bits everywhere.
        blocks: Entry and exit by block.
        owner: The block that a kernel belongs to, by the kernel's name; ``""`` if it belongs to none.
        channels: By network, tensor and group, how many of its channels go with how many of the group's.
        group_sizes: Channels of each group.
        layers: Kernels that have bits of their own.
        operands: Operators that read stored values at ``other_bits``.
        passing: Operators that only move values, which are as wide as what reads them there; others read floats.
        other_bits: See ``operands``.
    """

    networks: tuple[Workload, ...]
    blocks: Mapping[str, BlockEnds]
    owner: Mapping[str, str]
    channels: tuple[Mapping[str, Mapping[str, tuple[int, int]]], ...]
    group_sizes: Mapping[str, int]
    layers: frozenset[str]
    operands: frozenset[str]
    passing: frozenset[str]
    other_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """Choices of many plans, as arrays over the plans.

    Attributes:
        alternatives: By block, which one.
        kept: By group, how many channels.
        weight_bits: By layer.
        activation_bits: By layer.
    """

    count: int
    alternatives: Mapping[str, IntArray]
    kept: Mapping[str, IntArray]
    weight_bits: Mapping[str, IntArray]
    activation_bits: Mapping[str, IntArray]


@dataclass(slots=True)
class Slot:
    """A kernel of some plans: those numbered ``plans``. ``roots`` are the tensors it reads, one array per input.

    ``source`` and ``target`` are the shapes of its first input and of its output where nothing is cut.
    """

    kernel: Kernel
    network: int
    plans: IntArray
    source: tuple[int, ...]
    target: tuple[int, ...]
    roots: tuple[IntArray, ...] = ()
    written: int = -1


@dataclass(slots=True)
class Layout:
    """Every kernel and tensor of a batch of plans.

    ``channels``, ``elements`` and ``widths`` are (plans, tensors); columns are numbered by ``Slot.roots``.
    """

    plans: Plans
    keys: dict[Key, int] = field(default_factory=dict)
    channels: IntArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    elements: IntArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    widths: IntArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))


class Alternatives:
    """Lays out plans of a family.

    Raises:
        InputError: The family has a kernel with several results, or a block that reads or leaves several tensors.
    """

    def __init__(self, family: Family, plans: Plans) -> None:
        self.family = family
        self.layout = Layout(plans=plans)
        self._original = {name: "" for name in family.networks[0].inputs}
        self._exits = {ends.exit: block for block, ends in family.blocks.items()}
        self._resolved: dict[str, IntArray] = {}
        for name in family.networks[0].inputs:
            self._add(("", 0, name))
        raw = self.slots(family.networks, new=True)
        self._size()
        self._widen(raw)

    def slots(self, networks: Sequence[Workload], *, new: bool = False) -> list[Slot]:
        """Return the kernels of all alternatives in execution order, with the tensors that each plan gives them.

        Args:
            networks: The family's, or what a runtime makes of each.
            new: Make the tensors known that kernels write.
        """
        slots: list[Slot] = []
        seen: set[str] = set()
        for kernel in networks[0].kernels:
            block = self.owner(kernel.name)
            if not block:
                slots.append(_slot(kernel, networks, 0, np.arange(self.layout.plans.count)))
            elif block not in seen:
                seen.add(block)
                slots += self._of_block(block, networks)
        for slot in slots if new else ():
            for name in slot.kernel.outputs:
                self._add(self._key(slot, name))
        for slot in slots:
            self._connect(slot)
        return slots

    def owner(self, kernel: str) -> str:
        """Return the block that a kernel, or a node merged into one, belongs to; ``""`` if to none."""
        # What a runtime adds to a kernel is named after it, "<kernel>/<what>".
        name = kernel
        while name not in self.family.owner and "/" in name:
            name = name.rpartition("/")[0]
        return self.family.owner.get(name, "")

    def root(self, name: str) -> IntArray:
        """Return which tensor stands, in each plan, for one of the original network that crosses blocks; (plans,)."""
        if name not in self._resolved:
            self._resolved[name] = self._resolve(name)
        return self._resolved[name]

    def _of_block(self, block: str, networks: Sequence[Workload]) -> list[Slot]:
        found = []
        chosen = self.layout.plans.alternatives.get(block)
        for number, network in enumerate(networks):
            here = np.arange(self.layout.plans.count) if chosen is None else np.flatnonzero(chosen == number)
            if chosen is None and number > 0:
                break
            found += [
                _slot(kernel, networks, number, here) for kernel in network.kernels if self.owner(kernel.name) == block
            ]
        return found

    def _connect(self, slot: Slot) -> None:
        slot.roots = tuple(self._read(slot, name) for name in slot.kernel.inputs)
        key = self._key(slot, slot.kernel.outputs[0])
        if key in self.layout.keys:
            slot.written = self.layout.keys[key]

    def _read(self, slot: Slot, name: str) -> IntArray:
        key = self._key(slot, name)
        if key in self.layout.keys:
            return np.full(len(slot.plans), self.layout.keys[key])
        block = key[0]
        return self.root(self.family.blocks[block].entry if block else name)[slot.plans]

    def _resolve(self, name: str) -> IntArray:
        count = self.layout.plans.count
        block = self._exits.get(name, "")
        if not block:
            key = ("", 0, name)
            if key not in self.layout.keys:
                raise InputError("blocks", "must be joined by what they leave", name)
            return np.full(count, self.layout.keys[key])
        chosen = self.layout.plans.alternatives.get(block, np.zeros(count, dtype=np.int64))
        found = np.empty(count, dtype=np.int64)
        for number in np.unique(chosen).tolist():
            here = chosen == number
            key = (block, number, name)
            if key in self.layout.keys:
                found[here] = self.layout.keys[key]
            else:
                found[here] = self.root(self.family.blocks[block].entry)[here]
        return found

    def _key(self, slot: Slot, name: str) -> Key:
        block = self.owner(slot.kernel.name)
        return (block, slot.network if block else 0, name)

    def _add(self, key: Key) -> None:
        self.layout.keys.setdefault(key, len(self.layout.keys))

    def _size(self) -> None:
        layout, family = self.layout, self.family
        shape = (layout.plans.count, len(layout.keys))
        layout.channels, layout.elements = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for (_, network, name), place in layout.keys.items():
            info = family.networks[network].tensors[name]
            kept = np.full(layout.plans.count, info.shape[0])
            for group, (gone, of) in family.channels[network].get(name, {}).items():
                kept -= (family.group_sizes[group] - layout.plans.kept[group]) * gone // of
            layout.channels[:, place] = kept
            layout.elements[:, place] = kept * (info.elements // max(info.shape[0], 1))

    def _widen(self, slots: Sequence[Slot]) -> None:
        """Find how wide each tensor is: as the widest of what its readers take, from the last kernel to the first."""
        layout, family = self.layout, self.family
        widths = np.zeros_like(layout.channels)
        for name in family.networks[0].outputs:
            widths[np.arange(layout.plans.count), self.root(name)] = FLOAT_BITS
        for slot in reversed(slots):
            taken = self._taken(slot, widths)
            for root in slot.roots:
                widths[slot.plans, root] = np.maximum(widths[slot.plans, root], taken)
        layout.widths = np.where(widths == 0, FLOAT_BITS, widths)

    def _taken(self, slot: Slot, widths: IntArray) -> IntArray | int:
        name = slot.kernel.name
        if name in self.family.layers:
            return self.layout.plans.activation_bits[name][slot.plans]
        if slot.kernel.op in self.family.operands:
            return self.family.other_bits
        if slot.kernel.op not in self.family.passing:
            return FLOAT_BITS
        below: IntArray = widths[slot.plans, slot.written]
        return below


def _slot(kernel: Kernel, networks: Sequence[Workload], number: int, plans: IntArray) -> Slot:
    if len(kernel.outputs) != 1 or not kernel.inputs:
        raise InputError("kernels", "must read something and write one tensor", kernel.name)
    tensors = networks[number].tensors
    source, target = tensors[kernel.inputs[0]].shape, tensors[kernel.outputs[0]].shape
    return Slot(kernel=kernel, network=number, plans=plans, source=source, target=target)


def sizes_of(layout: Layout, stored: Callable[[int], int]) -> IntArray:
    """Return the bytes of every tensor where ``stored`` says in how many bits a width is kept; (plans, tensors)."""
    lookup = np.array([0, *(stored(bits) for bits in range(1, FLOAT_BITS + 1))])
    total: IntArray = (layout.elements * lookup[layout.widths] + 7) // 8
    return total
