"""Peak memory of activations: which tensors live at the same time, under the rules of a runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from hwmodels.alternatives import Layout, Slot
from hwmodels.profile import Memory
from hwmodels.quantity import value_of
from hwmodels.workload import Kernel, KernelKind, Workload

KIB = 1024
IntArray = NDArray[np.int64]


def last_uses(workload: Workload) -> dict[str, int]:
    """Return the index of the last kernel that reads each tensor; outputs of the network outlive all."""
    last = {name: -1 for name in workload.inputs}
    for index, kernel in enumerate(workload.kernels):
        for name in kernel.outputs:
            last[name] = index
        for name in kernel.inputs:
            last[name] = index
    end = len(workload.kernels)
    for name in workload.outputs:
        last[name] = end
    return last


def peak_memory_bytes(workload: Workload, memory: Memory, *, tensor_bytes: Mapping[str, int]) -> int:
    """Return the most RAM that activations, scratch and the runtime take at any step, in bytes.

    ``tensor_bytes`` are sizes as the device stores them. Fragmentation is left out, so that the result may be slightly
    too small; kernels run in the given order, so that it may be too large for a branched network that a runtime
    reorders. Weights are not counted: they stay in flash, or are part of ``model_bytes``.
    """
    workload = _without_rewrites(workload)
    last = last_uses(workload)
    live = sum(tensor_bytes[name] for name in set(workload.inputs))
    peak = live
    factor = value_of(memory.scratch_factor, 1.0)
    columns = value_of(memory.im2col_columns)
    for index, kernel in enumerate(workload.kernels):
        outputs = unread = freed = dying = 0
        for name in kernel.outputs:
            outputs += tensor_bytes[name]
            if last[name] == index:
                unread += tensor_bytes[name]
        for name in set(kernel.inputs) if len(kernel.inputs) > 1 else kernel.inputs:
            if last[name] == index:
                dying += 1
                freed += tensor_bytes[name]
        step = live + outputs - _overlap(kernel, workload, memory, freed=freed, outputs=outputs, dying=dying)
        if columns and kernel.kind in _IM2COL:
            step += ceil(2 * columns * kernel.kernel[0] * kernel.kernel[1] * kernel.in_channels / kernel.groups)
        peak = max(peak, step)
        live += outputs - freed - unread
    return ceil(peak * factor + value_of(memory.runtime_ram_kib) * KIB)


def peak_memory_many(
    workload: Workload,
    memory: Memory,
    *,
    tensor_bytes: Mapping[str, IntArray],
    in_channels: Mapping[str, IntArray],
    out_channels: Mapping[str, IntArray],
) -> IntArray:
    """Return ``peak_memory_bytes`` of many variants of one graph at once.

    Arrays are (variants,): sizes by tensor, channels by kernel. Groups of a depthwise kernel follow its channels.
    """
    workload = _without_rewrites(workload)
    last = last_uses(workload)
    live = sum((tensor_bytes[name] for name in set(workload.inputs)), start=np.int64(0))
    peak = np.asarray(live)
    columns = value_of(memory.im2col_columns)
    for index, kernel in enumerate(workload.kernels):
        outputs = sum((tensor_bytes[name] for name in kernel.outputs), start=np.int64(0))
        dying = [name for name in set(kernel.inputs) if last[name] == index]
        freed = sum((tensor_bytes[name] for name in dying), start=np.int64(0))
        step = live + outputs
        shared = np.minimum(freed, outputs)
        if _in_place(kernel) and len(dying) == 1:
            step = step - np.where(outputs <= freed, shared, 0)
        elif memory.rule == "overlapping":
            shape = workload.tensors[kernel.inputs[0]].shape
            rows = shape[-2] if len(shape) >= 3 else 1
            window = np.ceil(freed * min(1.0, value_of(memory.overlap_rows) / max(rows, 1)))
            step = step - np.maximum(0, shared - window.astype(np.int64))
        elif memory.rule == "in_place_depthwise" and kernel.kind is KernelKind.DEPTHWISE:
            channel = -(-outputs // np.maximum(out_channels[kernel.name], 1))
            step = step - np.where(outputs <= freed, outputs - channel, 0)
        if columns and kernel.kind in _IM2COL:
            inside = in_channels[kernel.name]
            per_group = inside / (inside if kernel.kind is KernelKind.DEPTHWISE else kernel.groups)
            step = step + np.ceil(2 * columns * kernel.kernel[0] * kernel.kernel[1] * per_group).astype(np.int64)
        peak = np.maximum(peak, step)
        unread = sum((tensor_bytes[name] for name in kernel.outputs if last[name] == index), start=np.int64(0))
        live = live + outputs - freed - unread
    scaled = peak * value_of(memory.scratch_factor, 1.0) + value_of(memory.runtime_ram_kib) * KIB
    total: IntArray = np.ceil(scaled).astype(np.int64)
    return total


def peak_memory_of_slots(
    slots: Sequence[Slot],
    memory: Memory,
    *,
    layout: Layout,
    sizes: IntArray,
    ends: tuple[Sequence[IntArray], Sequence[IntArray]],
) -> IntArray:
    """Return ``peak_memory_bytes`` of many plans at once; (plans,).

    Args:
        slots: Kernels of all plans in execution order.
        memory: The device's.
        layout: Channels of the tensors.
        sizes: Their bytes as the device stores them; (plans, tensors).
        ends: Inputs and outputs of the network, as tensors of each plan.
    """
    kept = [slot for slot in slots if slot.kernel.inputs != slot.kernel.outputs]
    everyone = np.arange(layout.plans.count)
    last = np.full(sizes.shape, -1)
    for index, slot in enumerate(kept):
        last[slot.plans, slot.written] = index
        for root in slot.roots:
            last[slot.plans, root] = index
    for root in ends[1]:
        last[everyone, root] = len(kept)
    live = np.zeros(len(everyone), dtype=np.int64)
    for root in ends[0]:
        live += sizes[everyone, root]
    peak = live.copy()
    for index, slot in enumerate(kept):
        plans = slot.plans
        outputs = sizes[plans, slot.written]
        freed, dying = np.zeros_like(outputs), np.zeros_like(outputs)
        for place, root in enumerate(slot.roots):
            ends_here = last[plans, root] == index
            for earlier in slot.roots[:place]:
                ends_here &= root != earlier
            dying += ends_here
            freed += np.where(ends_here, sizes[plans, root], 0)
        step = live[plans] + outputs - _overlaps(slot, memory, layout, freed=freed, outputs=outputs, dying=dying)
        peak[plans] = np.maximum(peak[plans], step + _im2col_bytes(slot, memory, layout))
        live[plans] += outputs - freed - np.where(last[plans, slot.written] == index, outputs, 0)
    scaled = peak * value_of(memory.scratch_factor, 1.0) + value_of(memory.runtime_ram_kib) * KIB
    total: IntArray = np.ceil(scaled).astype(np.int64)
    return total


def _overlaps(
    slot: Slot, memory: Memory, layout: Layout, *, freed: IntArray, outputs: IntArray, dying: IntArray
) -> IntArray:
    """Return ``_overlap`` of many plans."""
    kernel = slot.kernel
    shared = np.minimum(freed, outputs)
    found = np.zeros_like(shared)
    if memory.rule == "overlapping":
        rows = slot.source[-2] if len(slot.source) >= 3 else 1
        window = np.ceil(freed * min(1.0, value_of(memory.overlap_rows) / max(rows, 1))).astype(np.int64)
        found = np.maximum(0, shared - window)
    elif memory.rule == "in_place_depthwise" and kernel.kind is KernelKind.DEPTHWISE:
        channels = kernel.out_channels * layout.channels[slot.plans, slot.written] // slot.target[0]
        found = np.where((outputs <= freed) & (shared > 0), outputs - -(-outputs // np.maximum(channels, 1)), 0)
    if _in_place(kernel):
        found = np.where(dying == 1, np.where(outputs <= freed, shared, 0), found)
    return found


def _im2col_bytes(slot: Slot, memory: Memory, layout: Layout) -> IntArray | int:
    columns, kernel = value_of(memory.im2col_columns), slot.kernel
    if not columns or kernel.kind not in _IM2COL:
        return 0
    inside = kernel.in_channels * layout.channels[slot.plans, slot.roots[0]] // slot.source[0]
    outside = kernel.out_channels * layout.channels[slot.plans, slot.written] // slot.target[0]
    groups = kernel.groups * outside // kernel.out_channels if kernel.kind is KernelKind.DEPTHWISE else kernel.groups
    found: IntArray = np.ceil(2 * columns * kernel.kernel[0] * kernel.kernel[1] * inside / groups).astype(np.int64)
    return found


def _without_rewrites(workload: Workload) -> Workload:
    """Return the workload without kernels that only rewrite a tensor where it lies."""
    kept = tuple([kernel for kernel in workload.kernels if kernel.inputs != kernel.outputs])
    return workload if len(kept) == len(workload.kernels) else replace(workload, kernels=kept)


_IM2COL = (KernelKind.CONV, KernelKind.POINTWISE, KernelKind.DEPTHWISE)
_VIEWS = ("flatten", "reshape", "squeeze", "unsqueeze")  # of what moves data, these leave it where it lies


def _in_place(kernel: Kernel) -> bool:
    """Return whether a kernel may write its output over its one input."""
    return kernel.kind in (KernelKind.ELEMENTWISE, KernelKind.NORMALISATION) or kernel.op in _VIEWS


def _overlap(kernel: Kernel, workload: Workload, memory: Memory, *, freed: int, outputs: int, dying: int) -> int:
    """Return how many bytes of the output may lie where a dying input lay."""
    shared = min(freed, outputs)
    if not shared:
        return 0
    if _in_place(kernel) and dying == 1:
        return shared if outputs <= freed else 0
    if memory.rule == "overlapping":
        # A window of input rows must stay readable while the output is written over the rest.
        shape = workload.tensors[kernel.inputs[0]].shape
        rows = shape[-2] if len(shape) >= 3 else 1
        window = freed * min(1.0, value_of(memory.overlap_rows) / max(rows, 1))
        return max(0, shared - ceil(window))
    if memory.rule == "in_place_depthwise" and kernel.kind is KernelKind.DEPTHWISE and outputs <= freed:
        return outputs - ceil(outputs / max(kernel.out_channels, 1))
    return 0
