"""ONNX for operators without weights: element by element, pooling, moving values, products."""

import numpy as np

from compress.export.layers import Emitter
from compress.export.writer import GraphWriter, integer, integers, number
from compress.network.graph import Node


def plain(op: str) -> Emitter:
    """Return what writes an operator that ONNX has under another name and nothing else."""

    def emit(writer: GraphWriter, node: Node) -> None:
        writer.add(op, [writer.value(value) for value in node.inputs], node.name, node.outputs)

    return emit


def reduction(op: str) -> Emitter:
    """Return what writes a reduction."""

    def emit(writer: GraphWriter, node: Node) -> None:
        axes = writer.integers(integers(node, "dims"), f"{node.name}/axes")
        writer.add(
            op, [_input(writer, node), axes], node.name, node.outputs, keepdims=int(bool(node.attributes["keepdim"]))
        )

    return emit


def along(op: str) -> Emitter:
    """Return what writes an operator along one dimension."""

    def emit(writer: GraphWriter, node: Node) -> None:
        inputs = [writer.value(value) for value in node.inputs]
        writer.add(op, inputs, node.name, node.outputs, axis=integer(node, "dim"))

    return emit


def silu(writer: GraphWriter, node: Node) -> None:
    """Write ``x * sigmoid(x)``."""
    value = _input(writer, node)
    writer.add("Mul", [value, writer.add("Sigmoid", [value], f"{node.name}/sigmoid")], node.name, node.outputs)


def clip(writer: GraphWriter, node: Node) -> None:
    """Write Clip; a missing bound is an empty input."""
    bounds = [
        ""
        if node.attributes[key] is None
        else writer.constant(np.array(number(node, key), np.float32), f"{node.name}/{key}")
        for key in ("min", "max")
    ]
    writer.add("Clip", [_input(writer, node), *bounds], node.name, node.outputs)


def leaky_relu(writer: GraphWriter, node: Node) -> None:
    """Write LeakyRelu."""
    writer.add("LeakyRelu", [_input(writer, node)], node.name, node.outputs, alpha=number(node, "slope"))


def elu(writer: GraphWriter, node: Node) -> None:
    """Write Elu."""
    writer.add("Elu", [_input(writer, node)], node.name, node.outputs, alpha=number(node, "alpha"))


def hard_sigmoid(writer: GraphWriter, node: Node) -> None:
    """Write HardSigmoid."""
    options = {"alpha": number(node, "slope"), "beta": number(node, "offset")}
    writer.add("HardSigmoid", [_input(writer, node)], node.name, node.outputs, **options)


def gelu(writer: GraphWriter, node: Node) -> None:
    """Write Gelu."""
    writer.add("Gelu", [_input(writer, node)], node.name, node.outputs, approximate=str(node.attributes["approximate"]))


def prelu(writer: GraphWriter, node: Node) -> None:
    """Write PRelu; a slope per channel is spread over the dimensions behind the channels."""
    slope = writer.array(node.parameters["weight"])
    shape = (-1, *(1,) * (writer.rank(node.inputs[0]) - 2)) if slope.size > 1 else (1,)
    inputs = [_input(writer, node), writer.constant(slope.reshape(shape), f"{node.name}/slope")]
    writer.add("PRelu", inputs, node.name, node.outputs)


def max_pool(writer: GraphWriter, node: Node) -> None:
    """Write MaxPool."""
    writer.add(
        "MaxPool", [_input(writer, node)], node.name, node.outputs, **_pool(node), dilations=integers(node, "dilation")
    )


def avg_pool(writer: GraphWriter, node: Node) -> None:
    """Write AveragePool."""
    count = int(bool(node.attributes["count_include_pad"]))
    writer.add("AveragePool", [_input(writer, node)], node.name, node.outputs, **_pool(node), count_include_pad=count)


def norm(writer: GraphWriter, node: Node) -> None:
    """Write ReduceL1 or ReduceL2."""
    reduction(f"ReduceL{integer(node, 'order')}")(writer, node)


def flatten(writer: GraphWriter, node: Node) -> None:
    """Write Reshape: leading dimensions are copied, so that any batch passes."""
    rank = writer.rank(node.inputs[0])
    start, end = integer(node, "start_dim") % rank, integer(node, "end_dim") % rank
    _reshape(writer, node, [*[0] * start, -1, *writer.shape(node.inputs[0])[end + 1 :]])


def reshape(writer: GraphWriter, node: Node) -> None:
    """Write Reshape: 0 and -1 mean the same in both."""
    _reshape(writer, node, integers(node, "shape"))


def permute(writer: GraphWriter, node: Node) -> None:
    """Write Transpose."""
    rank = writer.rank(node.inputs[0])
    order = [dim % rank for dim in integers(node, "dims")]
    writer.add("Transpose", [_input(writer, node)], node.name, node.outputs, perm=order)


def squeeze(writer: GraphWriter, node: Node) -> None:
    """Write Squeeze."""
    axes = writer.integers(integers(node, "dims"), f"{node.name}/axes")
    writer.add("Squeeze", [_input(writer, node), axes], node.name, node.outputs)


def unsqueeze(writer: GraphWriter, node: Node) -> None:
    """Write Unsqueeze."""
    axes = writer.integers([integer(node, "dim")], f"{node.name}/axes")
    writer.add("Unsqueeze", [_input(writer, node), axes], node.name, node.outputs)


def expand(writer: GraphWriter, node: Node) -> None:
    """Write Expand, where 1 keeps a dimension as -1 does in torch."""
    shape = [1 if size == -1 else size for size in integers(node, "shape")]
    target = writer.integers(shape, f"{node.name}/shape")
    writer.add("Expand", [_input(writer, node), target], node.name, node.outputs)


def repeat_batch(writer: GraphWriter, node: Node) -> None:
    """Write Expand to the batch of the second input."""
    value, like = (writer.value(name) for name in node.inputs)
    dim = integer(node, "dim")
    batch = writer.add("Shape", [like], f"{node.name}/batch", start=dim, end=dim + 1)
    ones = writer.integers([1] * (writer.rank(node.inputs[0]) - 1), f"{node.name}/ones")
    shape = writer.add("Concat", [batch, ones], f"{node.name}/shape", axis=0)
    writer.add("Expand", [value, shape], node.name, node.outputs)


def split(writer: GraphWriter, node: Node) -> None:
    """Write Split into given sizes or into equal parts."""
    dim = integer(node, "dim")
    if node.attributes["sizes"] is None:
        part = writer.shape(node.inputs[0])[dim] // integer(node, "parts")
        sizes = [part] * len(node.outputs)
    else:
        sizes = integers(node, "sizes")
    lengths = writer.integers(sizes, f"{node.name}/sizes")
    writer.add("Split", [_input(writer, node), lengths], node.name, node.outputs, axis=dim)


def slice_(writer: GraphWriter, node: Node) -> None:
    """Write Slice."""
    keys = {"starts": "start", "ends": "end", "axes": "dim", "steps": "step"}
    numbers = [writer.integers([integer(node, key)], f"{node.name}/{name}") for name, key in keys.items()]
    writer.add("Slice", [_input(writer, node), *numbers], node.name, node.outputs)


def select(writer: GraphWriter, node: Node) -> None:
    """Write Gather of one index, which drops the dimension."""
    index = writer.constant(np.array(integer(node, "index"), np.int64), f"{node.name}/index")
    writer.add("Gather", [_input(writer, node), index], node.name, node.outputs, axis=integer(node, "dim"))


def pad(writer: GraphWriter, node: Node) -> None:
    """Write Pad: torch counts pairs from the last dimension, ONNX lists all starts, then all ends."""
    padding = integers(node, "padding")
    before = [0] * writer.rank(node.inputs[0])
    after = list(before)
    for index in range(len(padding) // 2):
        before[-1 - index], after[-1 - index] = padding[2 * index], padding[2 * index + 1]
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[str(node.attributes["mode"])]
    inputs = [_input(writer, node), writer.integers([*before, *after], f"{node.name}/pads")]
    if mode == "constant":
        inputs.append(writer.constant(np.array(number(node, "value"), np.float32), f"{node.name}/value"))
    writer.add("Pad", inputs, node.name, node.outputs, mode=mode)


def resize(writer: GraphWriter, node: Node) -> None:
    """Write Resize with torch's ways of finding the source pixel."""
    spatial = writer.rank(node.inputs[0]) - 2
    scales = np.array([1.0, 1.0, *[float(integer(node, "scale"))] * spatial], np.float32)
    inputs = [_input(writer, node), "", writer.constant(scales, f"{node.name}/scales")]
    mode = str(node.attributes["mode"])
    if mode == "nearest":
        options: dict[str, object] = {
            "mode": mode,
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
    else:
        corners = "align_corners" if node.attributes["align_corners"] else "half_pixel"
        options = {"mode": {"bilinear": "linear"}.get(mode, "cubic"), "coordinate_transformation_mode": corners}
    writer.add("Resize", inputs, node.name, node.outputs, cubic_coeff_a=-0.75, **options)


def pixel_shuffle(writer: GraphWriter, node: Node) -> None:
    """Write DepthToSpace in torch's order of channels."""
    options = {"blocksize": integer(node, "factor"), "mode": "CRD"}
    writer.add("DepthToSpace", [_input(writer, node)], node.name, node.outputs, **options)


def pixel_unshuffle(writer: GraphWriter, node: Node) -> None:
    """Write two reshapes around a transpose: ONNX's SpaceToDepth orders channels differently."""
    _, channels, height, width = writer.shape(node.inputs[0])
    factor = integer(node, "factor")
    high, wide = height // factor, width // factor
    apart = writer.integers([0, channels, high, factor, wide, factor], f"{node.name}/apart")
    cut = writer.add("Reshape", [_input(writer, node), apart], f"{node.name}/cut")
    sorted_ = writer.add("Transpose", [cut], f"{node.name}/sort", perm=[0, 1, 3, 5, 2, 4])
    shape = writer.integers([0, channels * factor * factor, high, wide], f"{node.name}/shape")
    writer.add("Reshape", [sorted_, shape], node.name, node.outputs)


_SAME_MEANING = {
    "relu": "Relu",
    "mish": "Mish",
    "selu": "Selu",
    "hard_swish": "HardSwish",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "erf": "Erf",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "sign": "Sign",
    "sin": "Sin",
    "cos": "Cos",
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "maximum": "Max",
    "minimum": "Min",
    "matmul": "MatMul",
    "global_avg_pool": "GlobalAveragePool",
    "global_max_pool": "GlobalMaxPool",
}
_REDUCTIONS = {"mean": "ReduceMean", "sum": "ReduceSum", "amax": "ReduceMax", "amin": "ReduceMin"}
_ALONG = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}

EMITTERS: dict[str, Emitter] = {
    **{name: plain(op) for name, op in _SAME_MEANING.items()},
    **{name: reduction(op) for name, op in _REDUCTIONS.items()},
    **{name: along(op) for name, op in _ALONG.items()},
    "norm": norm,
    "silu": silu,
    "clip": clip,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "hard_sigmoid": hard_sigmoid,
    "gelu": gelu,
    "prelu": prelu,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "flatten": flatten,
    "reshape": reshape,
    "permute": permute,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "expand": expand,
    "repeat_batch": repeat_batch,
    "split": split,
    "slice": slice_,
    "select": select,
    "pad": pad,
    "resize": resize,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
}


def _input(writer: GraphWriter, node: Node) -> str:
    return writer.value(node.inputs[0])


def _reshape(writer: GraphWriter, node: Node, shape: list[int]) -> None:
    target = writer.integers(shape, f"{node.name}/shape")
    writer.add("Reshape", [_input(writer, node), target], node.name, node.outputs)


def _pool(node: Node) -> dict[str, object]:
    padding = integers(node, "padding")
    return {
        "kernel_shape": integers(node, "kernel"),
        "strides": integers(node, "stride"),
        "pads": [*padding, *padding],
        "ceil_mode": int(bool(node.attributes["ceil_mode"])),
    }
