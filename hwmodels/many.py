"""What thousands of plans of one network cost on a device, each different kernel priced once."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hwmodels.alternatives import FLOAT_BITS, Alternatives, IntArray, Slot, sizes_of
from hwmodels.cost_model import Demand
from hwmodels.errors import InputError
from hwmodels.estimate import Pricer
from hwmodels.memory import peak_memory_of_slots
from hwmodels.prepare import prepared
from hwmodels.profile import Profile
from hwmodels.table import resized
from hwmodels.workload import Arithmetic

FloatArray = NDArray[np.float64]

MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio: spreads neighbours


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyPrices:
    """Prices of plans, as arrays over the plans; ``reasons`` says why one cannot run, ``None`` where it can."""

    latency_ms: FloatArray
    energy_mj: FloatArray
    model_bytes: IntArray
    peak_memory_bytes: IntArray
    reasons: list[str | None]


class Many:
    """Prices the plans of a layout on one device.

    Equals the full estimate of each plan, as long as what the runtime merges depends on no other block's alternative.

    Raises:
        InputError: The device's family prices kernels together, or its runtime merges kernels of several blocks.
    """

    def __init__(self, alternatives: Alternatives, profile: Profile) -> None:
        self._pricer = Pricer(profile)
        if not self._pricer.model.additive:
            raise InputError("profile.family", "prices kernels together; use estimate", profile.family)
        self._alternatives = alternatives
        self._layout = alternatives.layout
        self._networks = tuple(prepared(network, profile) for network in alternatives.family.networks)
        if (kernel := self._merged_across_blocks()) is not None:
            raise InputError("profile.fusion", "may merge kernels of several blocks; use estimate", kernel)
        self._slots = alternatives.slots(self._networks)
        self._sizes = sizes_of(self._layout, self._pricer.stored_value_bits)
        self._kinds: dict[tuple[object, ...], int] = {}  # kernels that differ in their names alone are of one kind
        self._known: dict[tuple[int, ...], tuple[float, float, int, str | None]] = {}  # by kind and row

    def _merged_across_blocks(self) -> str | None:
        """Return a kernel that the runtime may merge with what another block's alternative writes, if there is one."""
        owner, networks = self._alternatives.owner, self._alternatives.family.networks
        ends = {word for network in networks for kernel in network.kernels for word in (kernel.op, kernel.kind.value)}
        merging = {rule.second for rule in self._pricer.profile.fusion if rule.first in ends}
        for network in networks:
            writer = {name: owner(kernel.name) for kernel in network.kernels for name in kernel.outputs}
            readers = Counter((name, owner(kernel.name)) for kernel in network.kernels for name in kernel.inputs)
            for kernel in network.kernels:
                here = owner(kernel.name)
                if kernel.macs or merging.isdisjoint((kernel.op, kernel.kind.value)):
                    continue
                # What several kernels of a block read is merged with none of them.
                if any(readers[name, here] == 1 and writer.get(name, here) != here for name in kernel.inputs):
                    return kernel.name
        return None

    def prices(self) -> ManyPrices:
        """Return what every plan costs."""
        count = self._layout.plans.count
        totals, weight_bytes = np.zeros((count, 2)), np.zeros(count, dtype=np.int64)
        reasons: list[str | None] = [None] * count
        integers = np.zeros(count, dtype=bool)
        for slot in self._slots:
            rows, places = self._different(slot)
            kind = self._kind(slot)
            found = [self._price(slot, (kind, *row)) for row in rows.tolist()]
            totals[slot.plans] += np.array([row[:2] for row in found]).reshape(-1, 2)[places]
            weight_bytes[slot.plans] += np.array([row[2] for row in found], dtype=np.int64)[places]
            refused = [row[3] for row in found]
            if any(refused):
                for plan, place in zip(slot.plans.tolist(), places.tolist(), strict=True):
                    reasons[plan] = reasons[plan] or refused[place]
            if slot.kernel.macs:
                integers[slot.plans] |= slot.kernel.arithmetic is not Arithmetic.FLOAT
        border = self._border()
        overhead_us = self._pricer.model.overhead_us(weight_bytes.astype(np.float64), border)
        peaks = peak_memory_of_slots(
            self._slots, self._pricer.profile.memory, layout=self._layout, sizes=self._sizes, ends=self._ends()
        )
        self._add_refusals(reasons, integers, weight_bytes, peaks)
        return ManyPrices(
            latency_ms=(totals[:, 0] + overhead_us) / 1e3,
            energy_mj=totals[:, 1] + self._pricer.overhead_mj(overhead_us),
            model_bytes=weight_bytes,
            peak_memory_bytes=peaks,
            reasons=reasons,
        )

    def _different(self, slot: Slot) -> tuple[IntArray, IntArray]:
        """Return the different rows of what a kernel's price depends on, and each plan's place among them."""
        plans, layout, sizes = slot.plans, self._layout, self._sizes
        source, target = slot.roots[0], self._target(slot)
        widest = np.max([layout.widths[plans, root] for root in slot.roots], axis=0)
        weights, activations = layout.plans.weight_bits, layout.plans.activation_bits
        own = slot.kernel.name in weights
        if own and not weights[slot.kernel.name][plans].all():
            raise InputError("layers", "must have bits, all of them", slot.kernel.name)
        columns = [
            layout.channels[plans, source],
            layout.channels[plans, target],
            weights[slot.kernel.name][plans] if own else widest,
            activations[slot.kernel.name][plans] if own else widest,
            np.sum([sizes[plans, root] for root in slot.roots], axis=0),
            sizes[plans, target],
            np.sum([layout.elements[plans, root] for root in slot.roots], axis=0),
            layout.elements[plans, target],
        ]
        table = np.column_stack(columns)
        mixed = np.zeros(len(table), dtype=np.uint64)
        for column in columns:
            mixed = (mixed ^ column.astype(np.uint64)) * MIX
            mixed ^= mixed >> np.uint64(29)
        _, first, places = np.unique(mixed, return_index=True, return_inverse=True)
        rows = table[first]
        if not (rows[places] == table).all():  # two rows with one key
            rows, places = np.unique(table, axis=0, return_inverse=True)
        return rows, places.reshape(-1)

    def _target(self, slot: Slot) -> IntArray:
        return slot.roots[0] if slot.written < 0 else np.full(len(slot.plans), slot.written)

    def _kind(self, slot: Slot) -> int:
        nameless = replace(slot.kernel, name="", inputs=(), outputs=(), fused=())
        own = slot.kernel.name in self._layout.plans.weight_bits
        return self._kinds.setdefault((nameless, own, slot.source[0], slot.target[0]), len(self._kinds))

    def _price(self, slot: Slot, key: tuple[int, ...]) -> tuple[float, float, int, str | None]:
        """Return µs, mJ, bytes of the weights, and why the device cannot run the kernel, if so."""
        if key not in self._known:
            self._known[key] = self._priced(slot, *key[1:])
        latency_us, energy_mj, weight_bytes, reason = self._known[key]
        return latency_us, energy_mj, weight_bytes, None if reason is None else f"{slot.kernel.name}: {reason}"

    def _priced(
        self, slot: Slot, inside: int, outside: int, weight_bits: int, activation_bits: int, *moved: int
    ) -> tuple[float, float, int, str | None]:
        kernel, pricer = slot.kernel, self._pricer
        arithmetic = None
        if kernel.name not in self._layout.plans.weight_bits:
            arithmetic = Arithmetic.FLOAT if activation_bits >= FLOAT_BITS else Arithmetic.INTEGER
        varied = resized(
            kernel,
            in_channels=kernel.in_channels * inside // slot.source[0],
            out_channels=kernel.out_channels * outside // slot.target[0],
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            arithmetic=arithmetic,
        )
        read, written, read_elements, written_elements = moved
        demand = Demand(
            pricer.weight_bytes(varied),
            read,
            written,
            read_elements,
            written_elements,
            pricer.stored_weight_bits(varied.weight_bits),
            pricer.float_bits,
        )
        return (*pricer.kernel_mj(varied, demand), demand.weight_bytes, pricer.kernel_refusal(varied))

    def _ends(self) -> tuple[list[IntArray], list[IntArray]]:
        """Return the network's inputs and outputs as tensors of every plan."""
        original = self._networks[0]
        inputs = [self._alternatives.root(name) for name in original.inputs]
        return inputs, [self._alternatives.root(name) for name in original.outputs]

    def _border(self) -> FloatArray:
        plans = np.arange(self._layout.plans.count)
        inputs, outputs = self._ends()
        total: FloatArray = np.sum([self._sizes[plans, root] for root in (*inputs, *outputs)], axis=0, dtype=np.float64)
        return total

    def _add_refusals(
        self, reasons: list[str | None], integers: NDArray[np.bool_], weight_bytes: IntArray, peaks: IntArray
    ) -> None:
        numerics = self._pricer.numerics_refusal(self._alternatives.family.networks[0].numerics)
        rows = zip(integers.tolist(), weight_bytes.tolist(), peaks.tolist(), strict=True)
        for plan, (integer, size, peak) in enumerate(rows):
            reasons[plan] = (
                reasons[plan]
                or (numerics if integer else None)
                or self._pricer.capacity_refusal(model_bytes=size, peak_memory_bytes=peak)
            )
