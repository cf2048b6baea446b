"""Convolutions, matrix products, normalisation."""

import math

import torch
from torch import Tensor

from compress.network.onnx_import.errors import FIELD
from compress.network.onnx_import.rules import translates
from compress.network.onnx_import.translation import Source, Translation
from compress.network.ops.shapes import ShapeError


def spatial_padding(source: Source, image: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Return the padding before and after every spatial dimension, ``auto_pad`` worked out."""
    spatial = len(kernel)
    mode = source.text("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        pads = (source.integers("pads") if mode == "NOTSET" else None) or (0,) * (2 * spatial)
        source.require(len(pads) == 2 * spatial, "must have two pads per spatial dimension", list(pads))
        return list(pads[:spatial]), list(pads[spatial:])
    source.require(mode in ("SAME_UPPER", "SAME_LOWER"), "has an unknown auto_pad", mode)
    strides = source.integers("strides") or (1,) * spatial
    dilations = source.integers("dilations") or (1,) * spatial
    before, after = [], []
    for size, k, s, d in zip(image, kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(size / s) - 1) * s + d * (k - 1) + 1 - size)
        less, more = total // 2, total - total // 2
        before.append(less if mode == "SAME_UPPER" else more)
        after.append(more if mode == "SAME_UPPER" else less)
    return before, after


def uneven_padding(before: list[int], after: list[int]) -> tuple[int, ...]:
    """Return both in the order of the ``pad`` operator: pairs from the last dimension backwards."""
    return tuple(size for pair in zip(reversed(before), reversed(after), strict=True) for size in pair)


def kernel_of(source: Source, weight: Tensor) -> tuple[int, ...]:
    """Return the spatial shape of a convolution's weight; a stated ``kernel_shape`` must be the same."""
    shape = tuple(weight.shape[2:])
    stated = source.integers("kernel_shape") or shape
    if stated != shape:
        rule = f"kernel_shape {list(stated)} must be that of its weight {source.inputs[1]!r}, {list(shape)}"
        raise ShapeError(FIELD, f"node {source.name!r} ({source.op}): {rule}")
    return shape


def _parameters(source: Source, graph: Translation, roles: dict[int, str]) -> dict[str, str]:
    """Map roles to constant inputs, those that are there."""
    found = {}
    for index, role in roles.items():
        if source.has(index):
            graph.constant(source, index, role)
            found[role] = source.inputs[index]
    return found


@translates("Conv")
def conv(source: Source, graph: Translation) -> None:
    """Pad unevenly by a node of its own; torch's convolution pads both sides alike."""
    weight = graph.constant(source, 1, "weight")
    spatial = weight.ndim - 2
    x = source.inputs[0]
    source.require(spatial in (1, 2), "must have one or two spatial dimensions", spatial)
    source.require(len(graph.shape(x)) == weight.ndim, "must have a weight of its input's rank")
    before, after = spatial_padding(source, graph.shape(x)[2:], kernel_of(source, weight))
    if before != after:
        x = graph.emit(graph.node_name(f"{source.name}/pad"), "pad", [x], padding=uneven_padding(before, after))
        before = [0] * spatial
    graph.emit(
        source.name,
        "conv",
        [x],
        source.outputs,
        parameters=_parameters(source, graph, {1: "weight", 2: "bias"}),
        stride=source.integers("strides") or (1,) * spatial,
        padding=tuple(before),
        dilation=source.integers("dilations") or (1,) * spatial,
        groups=source.integer("group", 1),
    )


@translates("ConvTranspose")
def conv_transpose(source: Source, graph: Translation) -> None:
    """Uneven cropping becomes output padding where the end is cropped less."""
    weight = graph.constant(source, 1, "weight")
    spatial = weight.ndim - 2
    source.require(spatial in (1, 2), "must have one or two spatial dimensions", spatial)
    source.require(source.integers("output_shape") is None, "must not have output_shape")
    source.require(source.text("auto_pad", "NOTSET") in ("NOTSET", "VALID"), "must not have auto_pad")
    before, after = spatial_padding(source, graph.shape(source.inputs[0])[2:], kernel_of(source, weight))
    extra = source.integers("output_padding") or (0,) * spatial
    extra = tuple(size + less - more for size, less, more in zip(extra, before, after, strict=True))
    source.require(min(extra) >= 0, "must not crop more at the end than at the start", [before, after])
    graph.emit(
        source.name,
        "conv_transpose",
        [source.inputs[0]],
        source.outputs,
        parameters=_parameters(source, graph, {1: "weight", 2: "bias"}),
        stride=source.integers("strides") or (1,) * spatial,
        padding=tuple(before),
        output_padding=extra,
        dilation=source.integers("dilations") or (1,) * spatial,
        groups=source.integer("group", 1),
    )


@translates("Gemm")
def gemm(source: Source, graph: Translation) -> None:
    """A linear layer, its factors multiplied into weight and bias."""
    weight = graph.constant(source, 1, "second factor")
    source.require(source.integer("transA", 0) == 0, "must not transpose its input")
    alpha, beta = source.number("alpha", 1.0), source.number("beta", 1.0)
    transposed = source.integer("transB", 0) == 1
    name = source.inputs[1]
    if not transposed or alpha != 1.0:
        name = graph.add_constant(f"{source.name}/weight", _contiguous(weight if transposed else weight.T) * alpha)
    parameters = {"weight": name}
    if source.has(2):
        parameters["bias"] = _gemm_bias(source, graph, beta, graph.constants[name].shape[0])
    graph.emit(source.name, "linear", [source.inputs[0]], source.outputs, parameters=parameters)


def _gemm_bias(source: Source, graph: Translation, beta: float, features: int) -> str:
    bias = graph.constant(source, 2, "third input")
    source.require(bias.numel() in (1, features), "must add the same bias to every row", list(bias.shape))
    if tuple(bias.shape) == (features,) and beta == 1.0:
        return source.inputs[2]
    return graph.add_constant(f"{source.name}/bias", _contiguous(bias.reshape(-1).expand(features)) * beta)


@translates("MatMul")
def matmul(source: Source, graph: Translation) -> None:
    """A linear layer where the right factor is a constant matrix."""
    left, right = source.inputs[:2]
    if graph.is_constant(right) and graph.constants[right].ndim == 2 and not graph.is_constant(left):
        weight = graph.add_constant(f"{source.name}/weight", _contiguous(graph.constants[right].T))
        graph.emit(source.name, "linear", [left], source.outputs, parameters={"weight": weight})
        return
    graph.emit(source.name, "matmul", [left, right], source.outputs)


@translates("BatchNormalization")
def batch_norm(source: Source, graph: Translation) -> None:
    """Statistics of training only: a network that normalises by the batch at hand is refused."""
    source.require(source.integer("training_mode", 0) == 0, "must not be in training mode")
    source.require(source.integer("spatial", 1) == 1, "must have one statistic per channel")
    parameters = _parameters(source, graph, {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"})
    source.require(len(parameters) == 4, "must have scale, bias, mean and variance")
    eps = source.number("epsilon", 1e-5)
    graph.emit(source.name, "batch_norm", [source.inputs[0]], source.outputs[:1], parameters=parameters, eps=eps)


@translates("LayerNormalization")
def layer_norm(source: Source, graph: Translation) -> None:
    """Trailing dimensions, as many as the scale has."""
    axis = source.integer("axis", -1)
    rank = len(graph.shape(source.inputs[0]))
    weight = graph.constant(source, 1, "scale")
    source.require(weight.ndim == rank - axis % rank, "must have a scale for every normalised dimension")
    parameters = _parameters(source, graph, {1: "weight", 2: "bias"})
    eps = source.number("epsilon", 1e-5)
    graph.emit(source.name, "layer_norm", [source.inputs[0]], source.outputs[:1], parameters=parameters, eps=eps)


@translates("InstanceNormalization")
def instance_norm(source: Source, graph: Translation) -> None:
    """One scale and bias per channel."""
    parameters = _parameters(source, graph, {1: "weight", 2: "bias"})
    eps = source.number("epsilon", 1e-5)
    graph.emit(source.name, "instance_norm", [source.inputs[0]], source.outputs, parameters=parameters, eps=eps)


@translates("GroupNormalization")
def group_norm(source: Source, graph: Translation) -> None:
    """Before operator set 21 scale and bias were per group; they are repeated for its channels."""
    groups, channels = source.integer("num_groups", 1), graph.shape(source.inputs[0])[1]
    parameters = _parameters(source, graph, {1: "weight", 2: "bias"})
    source.require(len(parameters) == 2 and groups > 0, "must have groups, scale and bias")
    if source.opset < 21:
        source.require(channels % groups == 0, "must have groups that divide the channels", groups)
        for role, name in parameters.items():
            repeated = graph.constants[name].repeat_interleave(channels // groups)
            parameters[role] = graph.add_constant(f"{source.name}/{role}", repeated)
    eps = source.number("epsilon", 1e-5)
    x = source.inputs[0]
    graph.emit(source.name, "group_norm", [x], source.outputs, parameters=parameters, groups=groups, eps=eps)


@translates("Softmax", "LogSoftmax")
def softmax(source: Source, graph: Translation) -> None:
    """Before operator set 13 all dimensions from the axis on were normalised together."""
    shape = graph.shape(source.inputs[0])
    axis = source.integer("axis", -1 if source.opset >= 13 else 1)
    source.require(-len(shape) <= axis < len(shape), "must have an axis of its input", axis)
    trailing = shape[axis % len(shape) + 1 :]
    source.require(source.opset >= 13 or math.prod(trailing) == 1, "must normalise one dimension", axis)
    op = "softmax" if source.op == "Softmax" else "log_softmax"
    graph.emit(source.name, op, [source.inputs[0]], source.outputs, dim=axis)


def _contiguous(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)
