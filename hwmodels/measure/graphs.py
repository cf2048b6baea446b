"""Networks written twice at once: as an ONNX file to be timed, and as the workload that it is priced by.

Every node, and every value it writes, is named ``KERNEL|OPERATOR``, so that what a runtime makes of it can be traced
back to the kernel, whatever was merged.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hwmodels.builder import WorkloadBuilder
from hwmodels.workload import Kernel, Workload

OPSET = 21
IR_VERSION = 10
MARK = "|"


class Grid(NamedTuple):
    """Steps of a tensor's codes."""

    scale: float
    zero_point: int


SIGNED = Grid(0.05, 128)
GRIDS = {"relu": Grid(0.05, 0), "clip": Grid(6 / 255, 0), "sigmoid": Grid(1 / 255, 0)}

_ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "hard_swish": ("HardSwish", {}),
}


class GraphWriter:
    """Collects layers of a network with random weights; every method returns the name of the tensor it writes.

    With ``int8`` every tensor is quantized to uint8 and weights to int8 per channel by QuantizeLinear and
    DequantizeLinear pairs, as ``compress.export`` writes them.
    """

    def __init__(self, shape: tuple[int, int, int], *, int8: bool, generator: np.random.Generator) -> None:
        bits = 8 if int8 else 32
        self._build = WorkloadBuilder(shape, weight_bits=bits, activation_bits=bits)
        self._int8 = int8
        self._random = generator
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._followers: dict[str, tuple[str, ...]] = {}  # by kernel
        self._operators: dict[str, str] = {}
        self._written: dict[str, str] = {}  # value in the file by tensor of the workload
        self._raw: dict[str, str] = {}  # the value before it was quantized
        self._vectors: set[str] = set()  # tensors without pixels
        self._shape = shape
        self._grids: dict[str, Grid] = {}
        self.input = self._build.input
        self._grids[self.input] = SIGNED
        self._written[self.input] = self._quantized("input", "input", SIGNED) if int8 else "input"

    def shape(self, tensor: str) -> tuple[int, int, int]:
        """Return (channels, height, width) of a tensor."""
        return self._build.shape(tensor)

    def conv(
        self, source: str, channels: int, kernel: int = 3, stride: int = 1, *, groups: int = 1, activation: str = ""
    ) -> str:
        """Add a convolution, padded to keep ``size / stride``, and an activation."""
        inside, height, width = self.shape(source)
        pad = kernel // 2
        size = ((height + 2 * pad - kernel) // stride + 1, (width + 2 * pad - kernel) // stride + 1)
        tensor = self._build.conv(source, channels, kernel, stride, groups=groups, out_size=size)
        name = self._name
        inputs = [
            self._written[source],
            *self._weights(name, (channels, inside // groups, kernel, kernel), self._grids[source]),
        ]
        options = {"strides": [stride] * 2, "pads": [pad] * 4, "group": groups}
        return self._finished(tensor, self._node("Conv", inputs, name, "conv", **options), activation)

    def linear(self, source: str, features: int, *, activation: str = "") -> str:
        """Add a fully connected layer over all values of a tensor."""
        channels, height, width = self.shape(source)
        tensor = self._build.linear(source, features)
        name = self._name
        value = self._written[source]
        if source not in self._vectors:
            value = self._node("Reshape", [value, self._constant(np.array([1, -1]), f"{name}/shape")], name, "flatten")
        inputs = [value, *self._weights(name, (features, channels * height * width), self._grids[source])]
        self._vectors.add(tensor)
        return self._finished(tensor, self._node("Gemm", inputs, name, "linear", transB=1), activation)

    def pool(self, source: str, kernel: int, stride: int, *, average: bool = False) -> str:
        """Add a pooling, padded to keep ``size / stride``."""
        _, height, width = self.shape(source)
        pad = kernel // 2 if kernel % 2 else 0
        size = ((height + 2 * pad - kernel) // stride + 1, (width + 2 * pad - kernel) // stride + 1)
        tensor = self._build.pool(source, kernel, stride, out_size=size)
        options = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        kind, op = ("AveragePool", "avg_pool") if average else ("MaxPool", "max_pool")
        self._operators[self._name] = op
        value = self._node(kind, [self._written[source]], self._name, op, **options)
        return self._finished(tensor, value, "", grid=None if average else self._grids.get(source))

    def global_pool(self, source: str) -> str:
        """Add the mean over all pixels."""
        tensor = self._build.global_pool(source)
        self._operators[self._name] = "global_avg_pool"
        value = self._node("GlobalAveragePool", [self._written[source]], self._name, "global_avg_pool")
        return self._finished(tensor, value, "")

    def add(self, left: str, right: str, *, activation: str = "") -> str:
        """Add two tensors of one shape."""
        tensor = self._build.add(left, right)
        value = self._node("Add", [self._written[left], self._written[right]], self._name, "add")
        return self._finished(tensor, value, activation)

    def concat(self, *sources: str) -> str:
        """Join tensors along their channels."""
        tensor = self._build.concat(*sources)
        value = self._node("Concat", [self._written[source] for source in sources], self._name, "concat", axis=1)
        return self._finished(tensor, value, "")

    def scaled(self, source: str, gate: str) -> str:
        """Multiply every channel by its own number."""
        tensor = self._build.elementwise("mul", source, gate)
        value = self._node("Mul", [self._written[source], self._written[gate]], self._name, "mul")
        return self._finished(tensor, value, "")

    def batch_norm(self, source: str, *, activation: str = "") -> str:
        """Add a batch norm that no convolution precedes."""
        tensor = self._build.normalise(source)
        channels, name = self.shape(source)[0], self._name
        values = (np.ones(channels), np.zeros(channels), np.zeros(channels), np.ones(channels))
        parameters = [self._constant(v.astype(np.float32), f"{name}/{i}") for i, v in enumerate(values)]
        value = self._node("BatchNormalization", [self._written[source], *parameters], name, "batch_norm")
        return self._finished(tensor, value, activation)

    def model(self, output: str) -> bytes:
        """Return the ONNX file; ``output`` is the tensor that it returns."""
        value = self._raw.get(output, self._written[output])  # a network returns floats
        unread = {self._written[output]} - {value}
        unread |= {name for node in self._nodes if unread & set(node.output) for name in node.input[:1]}
        graph = helper.make_graph(
            [node for node in self._nodes if not unread & set(node.output)],
            "calibration",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, *self._shape])],
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
            self._constants,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        content: bytes = proto.SerializeToString()
        return content

    def workload(self, output: str) -> Workload:
        """Return what the file asks of a device."""
        workload = self._build.build(output)
        tensors = dict(workload.tensors)
        tensors[output] = replace(tensors[output], bits=32)
        return replace(workload, tensors=tensors, kernels=tuple(self._told(kernel) for kernel in workload.kernels))

    def _told(self, kernel: Kernel) -> Kernel:
        followers, op = self._followers.get(kernel.name, ()), self._operators.get(kernel.name, kernel.op)
        return replace(kernel, followers=followers, op=op)

    @property
    def _name(self) -> str:
        return self._build.last

    def _finished(self, tensor: str, value: str, activation: str, *, grid: Grid | None = None) -> str:
        name = self._name
        if activation:
            self._followers[name] = (activation,)
            value = self._activated(value, name, activation)
        self._raw[tensor] = value
        self._grids[tensor] = grid or GRIDS.get(activation, SIGNED)
        self._written[tensor] = self._quantized(value, name, self._grids[tensor]) if self._int8 else value
        return tensor

    def _activated(self, value: str, name: str, activation: str) -> str:
        if activation == "silu":  # two nodes, as PyTorch writes it
            gate = self._node("Sigmoid", [value], name, "silu/gate")
            return self._node("Mul", [value, gate], name, "silu")
        if activation == "clip":
            bounds = [self._constant(np.float32(bound), f"{name}/{bound}") for bound in (0, 6)]
            return self._node("Clip", [value, *bounds], name, "clip")
        kind, options = _ACTIVATIONS[activation]
        return self._node(kind, [value], name, activation, **options)

    def _quantized(self, value: str, name: str, grid: Grid) -> str:
        parameters = [
            self._constant(np.float32(grid.scale), f"{name}/scale"),
            self._constant(np.array(grid.zero_point, np.uint8), f"{name}/zero_point"),
        ]
        codes = self._node("QuantizeLinear", [value, *parameters], name, "quantize")
        return self._node("DequantizeLinear", [codes, *parameters], name, "dequantize")

    def _weights(self, name: str, shape: tuple[int, ...], grid: Grid) -> list[str]:
        fan_in = int(np.prod(shape[1:]))
        if not self._int8:
            weight = (self._random.random(shape, np.float32) - 0.5) * np.float32(np.sqrt(24 / fan_in))
            return [
                self._constant(weight, f"{name}/weight"),
                self._constant(np.zeros(shape[0], np.float32), f"{name}/bias"),
            ]
        levels = self._random.integers(-127, 128, shape, np.int8)
        scale = np.full(shape[0], np.sqrt(2 / fan_in) / 64, np.float32)
        zero = self._constant(np.zeros(shape[0], np.int8), f"{name}/zero")
        steps = [self._constant(levels, f"{name}/levels"), self._constant(scale, f"{name}/steps"), zero]
        weight_value = self._node("DequantizeLinear", steps, name, "weight", axis=0)
        bias = self._constant(np.zeros(shape[0], np.int32), f"{name}/bias_steps")
        bias_scale = self._constant(scale * np.float32(grid.scale), f"{name}/bias_scale")
        return [weight_value, self._node("DequantizeLinear", [bias, bias_scale], name, "bias", axis=0)]

    def _constant(self, value: NDArray[Any] | np.generic, name: str) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, kind: str, inputs: list[str], name: str, op: str, **options: Any) -> str:
        output = f"{name}{MARK}{op}"
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **options))
        return output
