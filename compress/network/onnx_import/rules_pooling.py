"""Pooling and reductions."""

import torch

from compress.network.graph import Attribute
from compress.network.onnx_import.reshaping import emit_reshape
from compress.network.onnx_import.rules import translates
from compress.network.onnx_import.rules_weighted import spatial_padding, uneven_padding
from compress.network.onnx_import.translation import Source, Translation

_LOWEST = torch.finfo(torch.float32).min


@translates("MaxPool")
def max_pool(source: Source, graph: Translation) -> None:
    """Uneven or wide padding becomes a node of its own, with the lowest value there is."""
    source.require(len(source.outputs) == 1 or not source.outputs[1], "must not give indices")
    kernel = _kernel(source, graph)
    dilation = source.integers("dilations") or (1,) * len(kernel)
    x, padding = _padded(source, graph, kernel, value=_LOWEST)
    graph.emit(
        source.name,
        "max_pool",
        [x],
        source.outputs[:1],
        kernel=kernel,
        stride=source.integers("strides") or (1,) * len(kernel),
        padding=padding,
        dilation=dilation,
        ceil_mode=bool(source.integer("ceil_mode", 0)),
    )


@translates("AveragePool")
def avg_pool(source: Source, graph: Translation) -> None:
    """Uneven padding becomes a node of its own where the padding counts."""
    kernel = _kernel(source, graph)
    counted = bool(source.integer("count_include_pad", 0))
    source.require(set(source.integers("dilations") or (1,)) == {1}, "must not be dilated")
    x, padding = _padded(source, graph, kernel, value=0.0)
    source.require(x == source.inputs[0] or counted, "must pad both sides alike, or count the padding")
    graph.emit(
        source.name,
        "avg_pool",
        [x],
        source.outputs,
        kernel=kernel,
        stride=source.integers("strides") or (1,) * len(kernel),
        padding=padding,
        ceil_mode=bool(source.integer("ceil_mode", 0)),
        count_include_pad=counted,
    )


def _kernel(source: Source, graph: Translation) -> tuple[int, ...]:
    kernel = source.integers("kernel_shape") or ()
    fits = len(kernel) in (1, 2) and len(graph.shape(source.inputs[0])) == len(kernel) + 2
    source.require(fits, "must have one or two spatial dimensions", list(kernel))
    return kernel


def _padded(
    source: Source, graph: Translation, kernel: tuple[int, ...], *, value: float
) -> tuple[str, tuple[int, ...]]:
    """Return the input, padded beforehand where torch's pooling cannot, and the padding that is left to do."""
    x = source.inputs[0]
    before, after = spatial_padding(source, graph.shape(x)[2:], kernel)
    if before == after and all(2 * size <= k for size, k in zip(before, kernel, strict=True)):
        return x, tuple(before)
    padding = uneven_padding(before, after)
    name = graph.node_name(f"{source.name}/pad")
    return graph.emit(name, "pad", [x], padding=padding, value=value), (0,) * len(kernel)


@translates("GlobalAveragePool", "GlobalMaxPool")
def global_pool(source: Source, graph: Translation) -> None:
    """Over all spatial dimensions."""
    op = "global_avg_pool" if source.op == "GlobalAveragePool" else "global_max_pool"
    graph.emit(source.name, op, [source.inputs[0]], source.outputs)


_REDUCTIONS = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "amax", "ReduceMin": "amin"}
_NORMS = {"ReduceL1": 1, "ReduceL2": 2}


@translates(*_REDUCTIONS, *_NORMS)
def reduction(source: Source, graph: Translation) -> None:
    """A mean over the image is global pooling, which every device knows."""
    x = source.inputs[0]
    shape = graph.shape(x)
    axes = source.integers("axes")
    if axes is None and source.has(1):
        axes = graph.integers(source, 1, "list of axes")
    if not axes and source.integer("noop_with_empty_axes", 0):
        graph.alias(source.outputs[0], x)
        return
    inside = all(-len(shape) <= axis < len(shape) for axis in axes or ())
    source.require(inside, "must reduce dimensions of its input", list(axes or ()))
    dims = tuple(sorted({axis % len(shape) for axis in axes})) if axes else tuple(range(len(shape)))
    keepdim = bool(source.integer("keepdims", 1))
    if source.op == "ReduceMean" and len(shape) == 4 and dims == (2, 3):
        _global_mean(source, graph, shape, keepdim=keepdim)
        return
    options: dict[str, Attribute] = {"dims": dims, "keepdim": keepdim}
    if source.op in _NORMS:
        options["order"] = _NORMS[source.op]
    op = _REDUCTIONS.get(source.op, "norm")
    graph.emit(source.name, op, [x], source.outputs, parameters=None, before=None, **options)


def _global_mean(source: Source, graph: Translation, shape: tuple[int, ...], *, keepdim: bool) -> None:
    x = source.inputs[0]
    if keepdim:
        graph.emit(source.name, "global_avg_pool", [x], source.outputs)
        return
    pooled = graph.emit(source.name, "global_avg_pool", [x])
    name = graph.node_name(f"{source.name}/flatten")
    emit_reshape(graph, name, pooled, shape[:2], source.outputs[0])
