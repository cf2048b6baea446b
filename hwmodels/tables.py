"""Workloads from published layer tables, block lists and cell strings, as files describe them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hwmodels.builder import WorkloadBuilder
from hwmodels.errors import InputError
from hwmodels.workload import Kernel, KernelKind, TensorInfo, Workload

_KINDS = {
    "Pooling": (KernelKind.POOL, "pool"),
    "Concat": (KernelKind.DATA_MOVEMENT, "concat"),
    "Slice": (KernelKind.DATA_MOVEMENT, "slice"),
    "Reshape": (KernelKind.DATA_MOVEMENT, "reshape"),
    "ShuffleChannel": (KernelKind.DATA_MOVEMENT, "shuffle"),
    "Softmax": (KernelKind.NORMALISATION, "softmax"),
    "LRN": (KernelKind.NORMALISATION, "lrn"),
    "BinaryOp": (KernelKind.ELEMENTWISE, "add"),
    "Eltwise": (KernelKind.ELEMENTWISE, "add"),
    "ReLU": (KernelKind.ELEMENTWISE, "relu"),
    "Swish": (KernelKind.ELEMENTWISE, "swish"),
    "HardSwish": (KernelKind.ELEMENTWISE, "hard_swish"),
    "HardSigmoid": (KernelKind.ELEMENTWISE, "hard_sigmoid"),
}


def from_layer_table(layers: Sequence[Mapping[str, Any]]) -> Workload:
    """Return the float workload of a table whose rows give operator, tensors, shapes, MACs and weights.

    Shapes are (channels, height, width); activations are already fused into the rows.
    """
    tensors: dict[str, TensorInfo] = {}
    kernels = []
    for index, row in enumerate(layers):
        kernel = _table_kernel(row, index)
        shapes = [(name, tuple(row["in"])) for name in row["in_tensors"][:1]]
        shapes += [(name, tuple(row["out"])) for name in row["out_tensors"]]
        for name, shape in shapes:
            tensors.setdefault(name, TensorInfo(shape=shape, bits=32))
        kernels.append(kernel)
    for kernel in kernels:
        for name in kernel.inputs:
            if name not in tensors:
                raise InputError(kernel.name, "reads a tensor that no row writes", name)
    read = {name for kernel in kernels for name in kernel.inputs}
    written = {name for kernel in kernels for name in kernel.outputs}
    return Workload(
        kernels=tuple(kernels),
        tensors=tensors,
        inputs=tuple(sorted(read - written)),
        outputs=tuple(sorted(written - read)),
    )


def _table_kernel(row: Mapping[str, Any], index: int) -> Kernel:
    op = row["op"]
    common: dict[str, Any] = {
        "name": f"{op.lower()}{index}",
        "inputs": tuple(row["in_tensors"]),
        "outputs": tuple(row["out_tensors"]),
        "in_channels": row["in"][0],
        "out_channels": row["out"][0],
    }
    if op in ("Convolution", "ConvolutionDepthWise"):
        groups, window = row["groups"], (row["k"][0], row["k"][1])
        kind = KernelKind.CONV
        if groups > 1 and groups == row["in"][0]:
            kind = KernelKind.DEPTHWISE
        elif groups == 1 and window == (1, 1):
            kind = KernelKind.POINTWISE
        return Kernel(
            **common,
            kind=kind,
            op="conv",
            kernel=window,
            stride=(row["stride"], row["stride"]),
            groups=groups,
            macs=row["macs"],
            weights=row["weights"],
            biases=row["out"][0],
        )
    if op == "InnerProduct":
        common["in_channels"] = row["weights"] // row["out"][0]
        return Kernel(
            **common,
            kind=KernelKind.LINEAR,
            op="linear",
            macs=row["macs"],
            weights=row["weights"],
            biases=row["out"][0],
        )
    if op not in _KINDS:
        raise InputError(common["name"], f"unknown operator; known: Convolution, InnerProduct, {', '.join(_KINDS)}", op)
    kind, name = _KINDS[op]
    return Kernel(**common, kind=kind, op=name)


def from_block_list(net: Mapping[str, Any]) -> Workload:
    """Return the float workload of a mobile network given as inverted-residual blocks.

    A block is [in, mid, out, kernel, stride, squeeze-excite, activation, has an identity shortcut].
    """
    size = int(net["resolution"])
    build = WorkloadBuilder((3, size, size))
    _, stem, kernel, stride, _ = net["first_conv"]
    x = build.conv(build.input, stem, kernel, stride)
    for inside, middle, outside, kernel, stride, excite, _, shortcut in net["blocks"]:
        y = build.conv(x, middle, 1) if middle != inside else x
        y = build.depthwise(y, kernel, stride)
        if excite:
            y = build.squeeze_excite(y, _divisible(middle // 4))
        y = build.conv(y, outside, 1)
        x = build.add(x, y) if shortcut else y
    if net["final_expand"]:
        x = build.global_pool(build.conv(x, net["final_expand"][1], 1))
        x = build.conv(x, net["feature_mix"][1], 1)
    else:
        x = build.global_pool(build.conv(x, net["feature_mix"][1], 1))
    return build.build(build.linear(x, net["classifier"][1]))


def _divisible(channels: float, by: int = 8) -> int:
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


_EDGE = re.compile(r"\|?([a-z_0-9]+)~(\d)")


def cell_edges(text: str) -> list[tuple[int, int, str]]:
    """Return (from, to, operator) of a NAS-Bench-201 cell string such as ``|op~0|+|op~0|op~1|+|…|``."""
    edges = []
    for node, part in enumerate(text.split("+"), start=1):
        found = _EDGE.findall(part)
        if len(found) != node:
            raise InputError("arch_str", f"must have {node} edges into node {node}", text)
        edges += [(int(source), node, op) for op, source in found]
    return edges


def from_cell(text: str, *, classes: int = 10, cells: int = 5, channels: int = 16) -> Workload:
    """Return the float workload of a NAS-Bench-201 network, dead edges removed.

    Stem, three stages of equal cells at 32, 16 and 8 pixels, a residual block that halves between them, classifier.
    """
    edges = _live_edges(cell_edges(text))
    build = WorkloadBuilder((3, 32, 32))
    x = build.conv(build.input, channels, 3)
    for stage in range(3):
        width = channels << stage
        if stage:
            branch = build.conv(build.conv(x, width, 3, 2), width, 3)
            x = build.add(build.conv(build.pool(x, 2, 2), width, 1), branch)
        for _ in range(cells):
            x = _cell(build, x, edges)
    return build.build(build.linear(build.global_pool(x), classes))


def _live_edges(edges: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    real = [edge for edge in edges if edge[2] != "none"]
    forward, backward = {0}, {3}
    for source, target, _ in sorted(real):
        if source in forward:
            forward.add(target)
    for source, target, _ in sorted(real, key=lambda edge: -edge[1]):
        if target in backward:
            backward.add(source)
    return [edge for edge in real if edge[0] in forward and edge[1] in backward]


def _cell(build: WorkloadBuilder, source: str, edges: Sequence[tuple[int, int, str]]) -> str:
    nodes = {0: source}
    for node in (1, 2, 3):
        arriving = []
        for start, target, op in edges:
            if target == node and start in nodes:
                arriving.append(_edge(build, nodes[start], op))
        if arriving:
            total = arriving[0]
            for other in arriving[1:]:
                total = build.add(total, other)
            nodes[node] = total
    return nodes.get(3, source)


def _edge(build: WorkloadBuilder, source: str, op: str) -> str:
    if op == "skip_connect":
        return source
    if op == "avg_pool_3x3":
        return build.pool(source, 3, 1)
    channels = build.shape(source)[0]
    return build.conv(source, channels, 1 if op == "nor_conv_1x1" else 3)
