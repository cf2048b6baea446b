"""How fast prices are: one estimate, and batches on ResNet-20's cost table. Process time: other load does not count."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hwmodels.builder import with_bits
from hwmodels.estimate import estimate
from hwmodels.profile import builtin_profiles
from hwmodels.reference import cifar_resnet, mobilenet_v2
from hwmodels.table import Axis, CostTable, TableSpec
from hwmodels.workload import KernelKind, Workload

BATCH = 20_000
BITS = (2, 3, 4, 6, 8)
KEEP = (0.5, 0.625, 0.75, 0.875, 1.0)


def spec(workload: Workload) -> TableSpec:
    """Return axes for the bits of every weighted kernel and of what it reads, and for channels inside each block."""
    axes: list[Axis] = []
    weights, values, channels = {}, {}, {}

    def axis(name: str, choices: tuple[int, ...]) -> str:
        axes.append(Axis(name=name, choices=choices))
        return name

    for kernel in workload.kernels:
        if kernel.weights:
            weights[kernel.name] = axis(f"{kernel.name}.weight_bits", BITS)
            if kernel.inputs[0] not in values:
                values[kernel.inputs[0]] = axis(f"{kernel.inputs[0]}.bits", (4, 6, 8))
    for kernel in workload.kernels:
        readers = [other for other in workload.kernels if kernel.outputs[0] in other.inputs]
        if kernel.kind is KernelKind.CONV and len(readers) == 1 and readers[0].kind is KernelKind.CONV:
            kept = tuple(int(kernel.out_channels * ratio) for ratio in KEEP)
            channels[kernel.outputs[0]] = axis(f"{kernel.outputs[0]}.channels", kept)
    return TableSpec(axes=tuple(axes), weight_bits=weights, tensor_bits=values, tensor_channels=channels)


def rate(work: Callable[[], object], count: int, *, repeats: int = 7) -> float:
    """Return items per second of CPU time, best of some runs."""
    work()
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return count / best


def speed(folder: Path) -> dict[str, Any]:
    """Return figures and targets; the folder is not needed."""
    lines = []
    mobile = with_bits(mobilenet_v2(), weight_bits=8, activation_bits=8)
    slowest = 0.0
    for name, profile in sorted(builtin_profiles().items()):
        times = []
        for _ in range(30):
            started = time.process_time()
            estimate(mobile, profile)
            times.append((time.process_time() - started) * 1e3)
        slowest = max(slowest, median(times))
        lines.append(f"{name:24} MobileNetV2, {len(mobile.kernels)} kernels: {median(times):.2f} ms")
    resnet = with_bits(cifar_resnet(20), weight_bits=8, activation_bits=8)
    axes = spec(resnet)
    started = time.process_time()
    table = CostTable(resnet, builtin_profiles()["raspberry-pi-4"], axes)
    lines.append(f"ResNet-20 table: {len(axes.axes)} axes, {table.entries} sums, {time.process_time() - started:.2f} s")
    generator = np.random.default_rng(0)
    batch = np.column_stack([generator.integers(0, len(axis.choices), BATCH) for axis in axes.axes])
    prices = rate(lambda: table.prices(batch), BATCH)
    peaks = rate(lambda: (table.prices(batch), table.peak_memory_bytes(batch)), BATCH)
    targets = [
        ("MobileNetV2 estimate, slowest device, ms", slowest, 2.0, slowest <= 2.0),
        ("cost table, candidates per second", prices, 1e6, prices >= 1e6),
        ("cost table with exact peak memory, candidates per second", peaks, 1e5, peaks >= 1e5),
    ]
    return {
        "lines": lines,
        "targets": [
            {"what": what, "got": round(got, 2), "target": f"{'≤' if bound < 10 else '≥'} {bound:g}", "met": met}
            for what, got, bound, met in targets
        ],
    }
