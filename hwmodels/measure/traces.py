"""Which of a profile's launches belong to which kernel of a workload."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hwmodels.cost_model import Demand
from hwmodels.measure.graphs import MARK
from hwmodels.measure.session import Event
from hwmodels.onnxruntime_rules import as_onnxruntime_runs
from hwmodels.predictor import KernelMeasurement
from hwmodels.workload import Arithmetic, Kernel, KernelKind, Workload

REORDERS = {"ReorderInput", "ReorderOutput", "Transpose"}
CONVERSIONS = {"QuantizeLinear": "quantize", "DequantizeLinear": "dequantize"}
INTEGER_BYTES, FLOAT_BYTES = 1, 4


def kernel_measurements(
    workload: Workload, events: Sequence[Event], *, traced_us: float = 0.0
) -> Iterator[KernelMeasurement]:
    """Yield the time of every kernel that ONNX Runtime launches for a network of ``graphs.GraphWriter``.

    Reordering and conversion of tensors are measurements of their own, by the number of values. ``traced_us`` is what
    being traced adds to a launch.
    """
    lowered = as_onnxruntime_runs(workload)
    by_name = {kernel.name: index for index, kernel in enumerate(lowered.kernels)}
    for index, kernel in enumerate(lowered.kernels):
        by_name |= dict.fromkeys(kernel.fused, index)
    spent: dict[int, float] = {}
    integer = any(kernel.arithmetic is not Arithmetic.FLOAT for kernel in workload.kernels)
    for event in events:
        latency_us = max(event.latency_us - traced_us, LEAST_US)
        op = "reorder" if event.op in REORDERS else CONVERSIONS.get(event.op)
        if op is not None:
            yield conversion(op, event.output_elements, latency_us, integer=integer and event.op == "Transpose")
            continue
        name, _, operator = event.name.partition(MARK)
        place = by_name.get(f"{name}/{operator.partition('/')[0]}", by_name.get(name))
        if place is not None:
            spent[place] = spent.get(place, 0.0) + latency_us
    for place, latency_us in spent.items():
        kernel = lowered.kernels[place]
        if kernel.op not in ("reorder", "quantize", "dequantize"):
            yield KernelMeasurement(kernel=kernel, demand=demand_of(kernel, lowered), latency_us=latency_us)


LEAST_US = 0.3


def conversion(op: str, elements: int, latency_us: float, *, integer: bool) -> KernelMeasurement:
    """Return the measurement of a kernel that only rewrites a tensor."""
    arithmetic = Arithmetic.INTEGER if integer or op == "dequantize" else Arithmetic.FLOAT
    bits = 8 if integer else 32
    kernel = Kernel(
        name=op,
        kind=KernelKind.ELEMENTWISE,
        op=op,
        inputs=("values",),
        outputs=("values",),
        arithmetic=arithmetic,
        weight_bits=bits,
        activation_bits=bits,
    )
    return KernelMeasurement(kernel=kernel, demand=_demand(kernel, elements, elements), latency_us=latency_us)


def demand_of(kernel: Kernel, workload: Workload) -> Demand:
    """Return what a kernel asks of a device that stores int8 and float32."""
    sizes = [sum(workload.tensors[name].elements for name in names) for names in (kernel.inputs, kernel.outputs)]
    return _demand(kernel, *sizes)


def _demand(kernel: Kernel, inputs: int, outputs: int) -> Demand:
    integer = kernel.arithmetic is not Arithmetic.FLOAT
    width = INTEGER_BYTES if integer else FLOAT_BYTES
    scales = kernel.out_channels * FLOAT_BYTES if integer and kernel.weights else 0
    weight_bytes = kernel.weights * width + kernel.biases * FLOAT_BYTES + scales
    return Demand(weight_bytes, inputs * width, outputs * width, inputs, outputs, width * 8, 32)


def without_names(measurement: KernelMeasurement) -> KernelMeasurement:
    """Return a measurement that says nothing of the network that it was made in."""
    kernel = replace(measurement.kernel, name=measurement.kernel.op, fused=())
    return replace(measurement, kernel=kernel)
