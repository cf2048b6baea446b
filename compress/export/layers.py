"""ONNX for weighted layers, normalisations, quantizers, and concatenation, which takes part in quantizing."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compress.export.writer import GraphWriter, integer, integers, number
from compress.network.graph import Node
from compress.weights import accumulator_steps

Emitter = Callable[[GraphWriter, Node], None]

_INT32_MAX = 2**31 - 1
_INT4 = range(-8, 8)


def quantize(writer: GraphWriter, node: Node) -> None:
    """Write QuantizeLinear and DequantizeLinear, preceded by Clip where the grid is smaller than eight bits.

    QuantizeLinear saturates at the ends of its integer type, not at 15.
    """
    value = writer.value(node.inputs[0])
    if node.inputs[0] not in writer.on_grid:
        value = _clipped(writer, node, value, node.name)
    _pair(writer, node, value, node.name, node.outputs)


def concat(writer: GraphWriter, node: Node) -> None:
    """Write Concat, with a pair on each operand if a quantizer is all that reads the result.

    Rounding operands to the quantizer's grid before they are joined changes no value, and it lets runtimes join
    integers and run what writes the operands on integers. An operand that lies on a grid of its own keeps that.
    """
    (joined,) = node.outputs
    readers = writer.consumers[joined]
    inputs = [writer.value(value) for value in node.inputs]
    if joined not in writer.graph.outputs and [reader.op for reader in readers] == ["quantize"]:
        for place, value in enumerate(node.inputs):
            if value not in writer.quantizers:
                name = f"{node.name}/{place}"
                inputs[place] = _pair(writer, readers[0], _clipped(writer, readers[0], inputs[place], name), name, None)
        if writer.quantizers.keys().isdisjoint(node.inputs):
            writer.on_grid.add(joined)
    writer.add("Concat", inputs, node.name, node.outputs, axis=integer(node, "dim"))


def quantize_again(writer: GraphWriter, node: Node) -> None:
    """Write another pair behind a node that passes values of a grid on.

    It changes no value. Runtimes look for pairs on both sides of an operator to run it, and what reads it, on integers.
    """
    for value in node.outputs:
        if value in writer.quantizers and value not in writer.graph.outputs:
            again = _pair(writer, writer.quantizers[value], writer.value(value), value, None)
            writer.rename(value, again)


def _container(quantizer: Node) -> type[np.uint8] | type[np.int8]:
    return np.uint8 if integer(quantizer, "low") >= 0 else np.int8


def _clipped(writer: GraphWriter, quantizer: Node, value: str, name: str) -> str:
    """Write Clip to the ends of a grid, unless they are those of its integer type; return what there is to quantize."""
    scale, zero_point = np.float32(number(quantizer, "scale")), integer(quantizer, "zero_point")
    low, high = integer(quantizer, "low"), integer(quantizer, "high")
    if (low, high) == (np.iinfo(_container(quantizer)).min, np.iinfo(_container(quantizer)).max):
        return value
    ends = (
        writer.constant(np.array((bound - zero_point) * scale, np.float32), f"{name}/{end}")
        for bound, end in ((low, "least"), (high, "most"))
    )
    return writer.add("Clip", [value, *ends], f"{name}/clip")


def _pair(writer: GraphWriter, quantizer: Node, value: str, name: str, outputs: Sequence[str] | None) -> str:
    """Write QuantizeLinear and DequantizeLinear with a quantizer's scale; return what the latter writes."""
    scale = np.array(np.float32(number(quantizer, "scale")))
    parameters = [
        writer.constant(scale, f"{name}/scale"),
        writer.constant(np.array(integer(quantizer, "zero_point"), _container(quantizer)), f"{name}/zero_point"),
    ]
    codes = writer.add("QuantizeLinear", [value, *parameters], f"{name}/q")
    return writer.add("DequantizeLinear", [codes, *parameters], f"{name}/dq", outputs)


def conv(writer: GraphWriter, node: Node) -> None:
    """Write Conv."""
    inputs = [writer.value(node.inputs[0]), _weight(writer, node), *_bias(writer, node)]
    writer.add("Conv", inputs, node.name, node.outputs, **_window(node), group=integer(node, "groups"))


def conv_transpose(writer: GraphWriter, node: Node) -> None:
    """Write ConvTranspose."""
    inputs = [writer.value(node.inputs[0]), _weight(writer, node), *_bias(writer, node)]
    writer.add(
        "ConvTranspose",
        inputs,
        node.name,
        node.outputs,
        **_window(node),
        group=integer(node, "groups"),
        output_padding=integers(node, "output_padding"),
    )


def linear(writer: GraphWriter, node: Node) -> None:
    """Write Gemm for rows, MatMul and Add for anything else."""
    value = writer.value(node.inputs[0])
    if writer.rank(node.inputs[0]) == 2:
        inputs = [value, _weight(writer, node), *_bias(writer, node)]
        writer.add("Gemm", inputs, node.name, node.outputs, transB=1)
        return
    weight = _weight(writer, node, transposed=True)
    if "bias" not in node.parameters:
        writer.add("MatMul", [value, weight], node.name, node.outputs)
        return
    product = writer.add("MatMul", [value, weight], node.name)
    writer.add("Add", [product, writer.parameter(node, "bias")], f"{node.name}/bias", node.outputs)


def batch_norm(writer: GraphWriter, node: Node) -> None:
    """Write BatchNormalization."""
    roles = ("weight", "bias", "running_mean", "running_var")
    inputs = [writer.value(node.inputs[0]), *(writer.parameter(node, role) for role in roles)]
    writer.add("BatchNormalization", inputs, node.name, node.outputs, epsilon=number(node, "eps"))


def layer_norm(writer: GraphWriter, node: Node) -> None:
    """Write LayerNormalization over as many trailing dimensions as the weight has."""
    inputs = [writer.value(node.inputs[0]), writer.parameter(node, "weight")]
    if "bias" in node.parameters:
        inputs.append(writer.parameter(node, "bias"))
    axis = -writer.array(node.parameters["weight"]).ndim
    writer.add("LayerNormalization", inputs, node.name, node.outputs, axis=axis, epsilon=number(node, "eps"))


def group_norm(writer: GraphWriter, node: Node) -> None:
    """Write GroupNormalization."""
    inputs = [writer.value(node.inputs[0]), writer.parameter(node, "weight"), writer.parameter(node, "bias")]
    options = {"epsilon": number(node, "eps"), "num_groups": integer(node, "groups")}
    writer.add("GroupNormalization", inputs, node.name, node.outputs, **options)


def instance_norm(writer: GraphWriter, node: Node) -> None:
    """Write InstanceNormalization."""
    inputs = [writer.value(node.inputs[0]), writer.parameter(node, "weight"), writer.parameter(node, "bias")]
    writer.add("InstanceNormalization", inputs, node.name, node.outputs, epsilon=number(node, "eps"))


EMITTERS: dict[str, Emitter] = {
    "quantize": quantize,
    "concat": concat,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "linear": linear,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
}


def _window(node: Node) -> dict[str, list[int]]:
    padding = integers(node, "padding")
    return {
        "strides": integers(node, "stride"),
        "pads": [*padding, *padding],
        "dilations": integers(node, "dilation"),
    }


def _weight(writer: GraphWriter, node: Node, *, transposed: bool = False) -> str:
    """Write a weight: as int8 levels with a scale per channel where it has integer codes."""
    tensor = node.parameters["weight"]
    coded = writer.coded(tensor)
    whole = None if coded is None else coded.integers(writer.compressed.plan.numerics)
    if coded is None or whole is None:
        return writer.constant(writer.array(tensor).T, tensor) if transposed else writer.tensor(tensor)
    values, scale, axis = whole.values.numpy(), whole.scale.numpy(), coded.format.axis
    if transposed:
        values, axis = values.T, 1 - axis
    per_channel = scale.size > 1 or values.shape[axis] == 1
    scale = scale if per_channel else scale.reshape(())
    narrow = writer.int4 and values.min() >= _INT4.start and values.max() < _INT4.stop
    levels = writer.int4_constant if narrow else writer.constant
    inputs = [
        levels(values, f"{tensor}/levels"),
        writer.constant(scale, f"{tensor}/scale"),
        levels(np.zeros_like(scale, np.int8), f"{tensor}/zero_point"),
    ]
    options: dict[str, Any] = {"axis": axis} if per_channel else {}
    return writer.add("DequantizeLinear", inputs, f"{tensor}/dq", **options)


def _bias(writer: GraphWriter, node: Node) -> list[str]:
    """Write a bias: int32 in steps of the accumulator if it lies on that grid (``apply`` puts it there), else float."""
    if "bias" not in node.parameters:
        return []
    tensor = node.parameters["bias"]
    coded = writer.coded(node.parameters["weight"])
    if coded is None or node.inputs[0] not in writer.scales:
        return [writer.tensor(tensor)]
    grid = accumulator_steps(coded, writer.scales[node.inputs[0]], writer.compressed.plan.numerics)
    bias = writer.array(tensor)
    if grid is None or len(grid) not in (1, bias.size):
        return [writer.tensor(tensor)]
    scale = np.broadcast_to(grid.numpy(), bias.shape)
    steps = np.rint(bias.astype(np.float64) / scale)
    if np.abs(steps).max() > _INT32_MAX or not np.array_equal(steps.astype(np.float32) * scale, bias):
        return [writer.tensor(tensor)]
    inputs = [
        writer.constant(steps.astype(np.int32), f"{node.name}/{tensor}/steps"),
        writer.constant(scale, f"{node.name}/{tensor}/scale"),
    ]
    return [writer.add("DequantizeLinear", inputs, f"{node.name}/{tensor}/dq", axis=0)]
