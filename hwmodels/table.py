"""Cost tables: prices of all choices of a network, computed once and added up for millions of candidates.

A kernel's price depends on few choices: channels kept before and after it, its weight width, the widths of the
tensors it touches, and whether the operator it belongs to was chosen at all. One array per kernel holds its price for
every combination of those; a batch of candidates is priced by indexing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwmodels.errors import InputError
from hwmodels.estimate import Pricer
from hwmodels.memory import peak_memory_many
from hwmodels.prepare import prepared
from hwmodels.profile import Profile
from hwmodels.workload import Arithmetic, Kernel, KernelKind, TensorInfo, Workload

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LATENCY, ENERGY, BYTES = range(3)
JOINT_ENTRIES = 4096  # of a table of several kernels: 96 KiB
BLOCK = 4096  # candidates summed at a time, so that partial sums stay in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One variable of the search: its choices are channels kept, bits, or for operators just 0, 1, 2."""

    name: str
    choices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """Which axis sets what. Names are those of the workload's tensors and kernels; what is not named stays.

    ``operators`` says for a kernel under which choices of an operator axis it exists: the workload then lists the
    kernels of all alternatives, and such a table has no peak memory.
    """

    axes: tuple[Axis, ...]
    tensor_channels: Mapping[str, str] = field(default_factory=dict)
    tensor_bits: Mapping[str, str] = field(default_factory=dict)
    weight_bits: Mapping[str, str] = field(default_factory=dict)
    operators: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)


class Prices(NamedTuple):
    """Prices of a batch; arrays are (candidates,)."""

    latency_ms: FloatArray
    energy_mj: FloatArray
    model_bytes: IntArray


class _Row(NamedTuple):
    columns: tuple[int, ...]  # of the candidate matrix
    strides: tuple[int, ...]
    prices: FloatArray  # (combinations, 3)


class CostTable:
    """All prices of a network's choices on one device.

    Latency, energy and bytes equal the full estimate's for families whose kernels are priced one by one; others
    (dataflow pipelines) are refused. What depends on the whole network (weights beyond an on-chip memory, peak
    memory) is corrected exactly from the sums.
    """

    def __init__(self, workload: Workload, profile: Profile, spec: TableSpec) -> None:
        self._pricer = Pricer(profile)
        if not self._pricer.model.additive:
            raise InputError("profile.family", "prices kernels together; use estimate", profile.family)
        self._workload = prepared(workload, profile)
        self._spec = spec
        self._columns = {axis.name: index for index, axis in enumerate(spec.axes)}
        self._choices = [np.array(axis.choices, dtype=np.int64) for axis in spec.axes]
        self._rows = _folded([self._row(kernel) for kernel in self._workload.kernels], self._choices)

    @property
    def entries(self) -> int:
        """Number of prices held."""
        return sum(len(row.prices) for row in self._rows)

    def prices(self, candidates: NDArray[np.integer]) -> Prices:
        """Return the prices of candidates.

        Args:
            candidates: (n, axes) positions in each axis's choices.
        """
        # (axes, n): one contiguous run per axis
        columns = np.ascontiguousarray(candidates.T, dtype=np.intp)
        totals = np.empty((columns.shape[1], 3))
        for start in range(0, len(totals), BLOCK):
            block = slice(start, start + BLOCK)
            totals[block] = self._sums(columns[:, block])
        border = np.full(len(totals), self._border_bytes) if not self._border_axes else self._border(columns)
        overhead_us = self._pricer.model.overhead_us(totals[:, BYTES], border)
        energy = totals[:, ENERGY] + self._pricer.overhead_mj(overhead_us)
        return Prices((totals[:, LATENCY] + overhead_us) / 1e3, energy, totals[:, BYTES].astype(np.int64))

    def _sums(self, columns: NDArray[np.intp]) -> FloatArray:
        sums = np.zeros((columns.shape[1], 3))
        chosen = np.empty_like(sums)
        for row in self._rows:
            # Indices are in range by construction; "clip" spares numpy a buffered check.
            np.take(row.prices, _combined(columns, row), axis=0, out=chosen, mode="clip")
            sums += chosen
        return sums

    def peak_memory_bytes(self, candidates: NDArray[np.integer]) -> IntArray:
        """Return the exact peak memory of candidates; (n, axes) positions in, (n,) bytes out.

        Raises:
            InputError: Operators change the graph: then only the full estimate knows.
        """
        if self._spec.operators:
            raise InputError("spec.operators", "change the graph; price the peak with estimate")
        columns = np.ascontiguousarray(candidates.T, dtype=np.intp)
        channels = {name: self._tensor_channels(name, columns) for name in self._workload.tensors}
        sizes = {name: self._tensor_bytes(name, columns) for name in self._workload.tensors}
        return peak_memory_many(
            self._workload,
            self._pricer.profile.memory,
            tensor_bytes=sizes,
            in_channels={k.name: channels[k.inputs[0]] for k in self._workload.kernels},
            out_channels={k.name: channels[k.outputs[0]] for k in self._workload.kernels},
        )

    def workload(self, candidate: Sequence[int]) -> Workload:
        """Return the workload of one candidate, as the full estimate takes it."""
        choice = {axis.name: axis.choices[candidate[index]] for index, axis in enumerate(self._spec.axes)}
        kernels = tuple(self._kernel(k, choice) for k in self._workload.kernels if self._exists(k, choice))
        tensors = {name: self._tensor(name, choice) for name in self._workload.tensors}
        return replace(self._workload, kernels=kernels, tensors=tensors)

    @property
    def _border_axes(self) -> bool:
        names = (*self._workload.inputs, *self._workload.outputs)
        return any(name in self._spec.tensor_channels or name in self._spec.tensor_bits for name in names)

    @property
    def _border_bytes(self) -> float:
        _, sizes = self._pricer.tensors(self._workload)
        return float(sum(sizes[name] for name in (*self._workload.inputs, *self._workload.outputs)))

    def _border(self, columns: NDArray[np.intp]) -> FloatArray:
        names = (*self._workload.inputs, *self._workload.outputs)
        total: FloatArray = np.sum([self._tensor_bytes(name, columns) for name in names], axis=0, dtype=np.float64)
        return total

    def _tensor_channels(self, name: str, columns: NDArray[np.intp]) -> IntArray:
        axis = self._spec.tensor_channels.get(name)
        if axis is None:
            return np.full(columns.shape[1], self._workload.tensors[name].shape[0], dtype=np.int64)
        place = self._columns[axis]
        chosen: IntArray = self._choices[place][columns[place]]
        return chosen

    def _tensor_bytes(self, name: str, columns: NDArray[np.intp]) -> IntArray:
        info = self._workload.tensors[name]
        pixels = info.elements // max(info.shape[0], 1)
        axis = self._spec.tensor_bits.get(name)
        bits: IntArray | int = self._pricer.stored_value_bits(info.bits)
        if axis is not None:
            place = self._columns[axis]
            stored = np.array([self._pricer.stored_value_bits(int(width)) for width in self._choices[place]])
            bits = stored[columns[place]]
        total: IntArray = (self._tensor_channels(name, columns) * pixels * bits + 7) // 8
        return total

    def _row(self, kernel: Kernel) -> _Row:
        names = self._axes_of(kernel)
        axes = [self._spec.axes[self._columns[name]] for name in names]
        prices = [
            self._price(kernel, dict(zip(names, chosen, strict=True))) for chosen in product(*(a.choices for a in axes))
        ]
        return _as_row(tuple(self._columns[name] for name in names), np.array(prices), self._choices)

    def _axes_of(self, kernel: Kernel) -> list[str]:
        spec, names = self._spec, [self._spec.weight_bits.get(kernel.name)]
        for tensor in (*kernel.inputs, *kernel.outputs):
            names += [spec.tensor_channels.get(tensor), spec.tensor_bits.get(tensor)]
        if kernel.name in spec.operators:
            names.append(spec.operators[kernel.name][0])
        return [name for name in dict.fromkeys(names) if name is not None]

    def _price(self, kernel: Kernel, choice: Mapping[str, int]) -> tuple[float, float, float]:
        if not self._exists(kernel, choice):
            return 0.0, 0.0, 0.0
        tensors = {name: self._tensor(name, choice) for name in (*kernel.inputs, *kernel.outputs)}
        elements, sizes = self._pricer.tensor_sizes(tensors)
        varied = self._kernel(kernel, choice)
        demand = self._pricer.demand(varied, elements, sizes)
        latency_us, energy_mj = self._pricer.kernel_mj(varied, demand)
        return latency_us, energy_mj, float(demand.weight_bytes)

    def _exists(self, kernel: Kernel, choice: Mapping[str, int]) -> bool:
        if kernel.name not in self._spec.operators:
            return True
        axis, allowed = self._spec.operators[kernel.name]
        return choice[axis] in allowed

    def _tensor(self, name: str, choice: Mapping[str, int]) -> TensorInfo:
        info = self._workload.tensors[name]
        channels = choice.get(self._spec.tensor_channels.get(name, ""), info.shape[0])
        bits = choice.get(self._spec.tensor_bits.get(name, ""), info.bits)
        return TensorInfo(shape=(channels, *info.shape[1:]), bits=bits)

    def _kernel(self, kernel: Kernel, choice: Mapping[str, int]) -> Kernel:
        source, target = kernel.inputs[0], kernel.outputs[0]
        first, last = self._workload.tensors[source].shape[0], self._workload.tensors[target].shape[0]
        inside = choice.get(self._spec.tensor_channels.get(source, ""), first)
        outside = choice.get(self._spec.tensor_channels.get(target, ""), last)
        return resized(
            kernel,
            # A fully connected kernel reads all pixels of every channel.
            in_channels=kernel.in_channels * inside // first,
            out_channels=kernel.out_channels * outside // last,
            weight_bits=choice.get(self._spec.weight_bits.get(kernel.name, ""), kernel.weight_bits),
            activation_bits=choice.get(self._spec.tensor_bits.get(source, ""), kernel.activation_bits),
        )


def resized(
    kernel: Kernel,
    *,
    in_channels: int,
    out_channels: int,
    weight_bits: int,
    activation_bits: int,
    arithmetic: Arithmetic | None = None,
) -> Kernel:
    """Return a kernel with other channels and widths: what channel pruning and quantization leave of it."""
    changes: dict[str, Any] = {name: getattr(kernel, name) for name in _KERNEL_FIELDS}
    changes |= {"weight_bits": weight_bits, "activation_bits": activation_bits}
    changes |= {"in_channels": in_channels, "out_channels": out_channels}
    if arithmetic is not None:
        changes["arithmetic"] = arithmetic
    if kernel.biases:
        changes["biases"] = kernel.biases * out_channels // kernel.out_channels
    if kernel.kind is KernelKind.DEPTHWISE:
        changes["groups"] = kernel.groups * out_channels // kernel.out_channels
        changes["macs"] = kernel.macs * out_channels // kernel.out_channels
        changes["weights"] = kernel.weights * out_channels // kernel.out_channels
    elif kernel.macs:
        before, after = kernel.in_channels * kernel.out_channels, in_channels * out_channels
        changes["macs"] = kernel.macs * after // before
        changes["weights"] = kernel.weights * after // before
    return Kernel(**changes)  # ``replace`` takes three times as long


_KERNEL_FIELDS = tuple(field.name for field in fields(Kernel))


def _folded(rows: Sequence[_Row], choices: Sequence[IntArray]) -> list[_Row]:
    """Return fewer rows with the same sums: rows are added together while their joint table stays small."""
    kept: list[_Row] = []
    for row in rows:
        for index, host in enumerate(kept):
            union = (*host.columns, *(column for column in row.columns if column not in host.columns))
            if prod(len(choices[column]) for column in union) <= max(len(host.prices), JOINT_ENTRIES):
                total = _spread(host, union, choices) + _spread(row, union, choices)
                kept[index] = _as_row(union, total, choices)
                break
        else:
            kept.append(row)
    return kept


def _spread(row: _Row, union: Sequence[int], choices: Sequence[IntArray]) -> FloatArray:
    """Return a row's prices with one dimension per column of ``union``, of size 1 where it does not depend on it."""
    table = row.prices.reshape([len(choices[column]) for column in row.columns] + [3])
    order = sorted(range(len(row.columns)), key=lambda place: union.index(row.columns[place]))
    return table.transpose([*order, len(order)]).reshape(
        [len(choices[column]) if column in row.columns else 1 for column in union] + [3]
    )


def _as_row(columns: tuple[int, ...], table: FloatArray, choices: Sequence[IntArray]) -> _Row:
    strides, step = [], 1
    for column in reversed(columns):
        strides.append(step)
        step *= len(choices[column])
    return _Row(columns, tuple(reversed(strides)), np.ascontiguousarray(table.reshape(-1, 3)))


def _combined(columns: NDArray[np.intp], row: _Row) -> NDArray[np.intp]:
    index = np.zeros(columns.shape[1], dtype=np.intp)
    for column, stride in zip(row.columns, row.strides, strict=True):
        index += columns[column] if stride == 1 else columns[column] * stride
    return index
