"""Operators that move values."""

import math

import torch

from compress.network.onnx_import.reshaping import emit_reshape
from compress.network.onnx_import.rules import translates
from compress.network.onnx_import.translation import Source, Translation
from compress.network.ops.spec import MAX_INTEGER, Shape


@translates("Reshape")
def reshape(source: Source, graph: Translation) -> None:
    """Zeros copy unless ``allowzero`` says otherwise; one -1 is inferred."""
    shape = graph.shape(source.inputs[0])
    target = list(graph.integers(source, 1, "shape"))
    copies = source.integer("allowzero", 0) == 0
    for index, size in enumerate(target):
        if size == 0 and copies and index < len(shape):
            target[index] = shape[index]
    known = math.prod(size for size in target if size != -1)
    source.require(target.count(-1) <= 1 and known > 0, "must have a shape without a second -1 or a 0", target)
    if -1 in target:
        target[target.index(-1)] = math.prod(shape) // known
    source.require(
        min(target, default=1) > 0 and math.prod(target) == math.prod(shape), "must keep every value", target
    )
    emit_reshape(graph, source.name, source.inputs[0], tuple(target), source.outputs[0])


@translates("Flatten")
def flatten(source: Source, graph: Translation) -> None:
    """To a matrix: the dimensions before the axis and those from it on."""
    shape = graph.shape(source.inputs[0])
    axis = source.integer("axis", 1)
    source.require(-len(shape) <= axis <= len(shape), "must have an axis of its input", axis)
    axis = axis + len(shape) if axis < 0 else axis
    target = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    emit_reshape(graph, source.name, source.inputs[0], target, source.outputs[0])


@translates("Squeeze")
def squeeze(source: Source, graph: Translation) -> None:
    """Without axes every dimension of one goes, but the batch stays."""
    x = source.inputs[0]
    shape = graph.shape(x)
    axes = _axes(source, graph)
    batch = graph.batch_dim(x)
    if axes is None:
        gone = {index for index, size in enumerate(shape) if size == 1 and index != batch}
    else:
        source.require(all(-len(shape) <= axis < len(shape) for axis in axes), "must name its input's axes", axes)
        gone = {axis % len(shape) for axis in axes}
    source.require(all(shape[axis] == 1 for axis in gone), "must squeeze dimensions of one", sorted(gone))
    source.require(batch not in gone, "must not squeeze the batch", sorted(gone))
    target = tuple(size for index, size in enumerate(shape) if index not in gone)
    emit_reshape(graph, source.name, x, target, source.outputs[0])


@translates("Unsqueeze")
def unsqueeze(source: Source, graph: Translation) -> None:
    """The axes count in the output."""
    shape = graph.shape(source.inputs[0])
    axes = _axes(source, graph) or ()
    rank = len(shape) + len(axes)
    source.require(all(-rank <= axis < rank for axis in axes), "must name axes of its output", list(axes))
    new = {axis % rank for axis in axes}
    source.require(len(new) == len(axes), "must name every axis once", list(axes))
    old = iter(shape)
    target = tuple(1 if index in new else next(old) for index in range(rank))
    emit_reshape(graph, source.name, source.inputs[0], target, source.outputs[0])


def _axes(source: Source, graph: Translation) -> tuple[int, ...] | None:
    """Axes are an attribute before operator set 13, an input since."""
    axes = source.integers("axes")
    return graph.integers(source, 1, "list of axes") if axes is None and source.has(1) else axes


@translates("Transpose")
def transpose(source: Source, graph: Translation) -> None:
    """Without an order all dimensions are reversed."""
    rank = len(graph.shape(source.inputs[0]))
    dims = source.integers("perm") or tuple(reversed(range(rank)))
    if dims == tuple(range(rank)):
        graph.alias(source.outputs[0], source.inputs[0])
        return
    graph.emit(source.name, "permute", [source.inputs[0]], source.outputs, dims=dims)


@translates("Concat")
def concat(source: Source, graph: Translation) -> None:
    """A constant part (a class token) is repeated for every image of the batch."""
    parts = [name for name in source.inputs if math.prod(graph.shape(name)) > 0]
    source.require(bool(parts), "must have an input that is not empty")
    growing = [name for name in parts if not graph.is_constant(name)]
    if growing:
        batch = graph.batch_dim(growing[0])
        for index, name in enumerate(parts):
            if graph.is_constant(name) and batch is not None:
                source.require(batch == 0, "must have the batch first to join a constant")
                repeat = graph.node_name(f"{source.name}/repeat")
                parts[index] = graph.emit(repeat, "repeat_batch", [name, growing[0]], before=1, dim=batch)
    graph.emit(source.name, "concat", parts, source.outputs, dim=source.integer("axis", 0))


@translates("Split")
def split(source: Source, graph: Translation) -> None:
    """Sizes are spelled out even where they are equal: that leaves every piece free to be cut by itself."""
    shape = graph.shape(source.inputs[0])
    axis = source.integer("axis", 0)
    source.require(-len(shape) <= axis < len(shape), "must have an axis of its input", axis)
    sizes = source.integers("split")
    if sizes is None and source.has(1):
        sizes = graph.integers(source, 1, "list of sizes")
    count = len(source.outputs)
    if sizes is None:
        each = -(-shape[axis] // count)
        sizes = (*(each,) * (count - 1), shape[axis] - each * (count - 1))
    source.require(len(sizes) == count and min(sizes) > 0, "must have one positive size per output", list(sizes))
    outputs = [name or f"{source.name}/unused_{index}" for index, name in enumerate(source.outputs)]
    graph.emit(source.name, "split", [source.inputs[0]], outputs, dim=axis, sizes=sizes, parts=count)


@translates("Slice")
def slice_(source: Source, graph: Translation) -> None:
    """One node per dimension that is really cut."""
    x = source.inputs[0]
    shape = graph.shape(x)
    starts, ends, axes, steps = _slice_ranges(source, graph)
    cuts = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        source.require(step > 0 and -len(shape) <= axis < len(shape), "must step forwards on its axes", [axis, step])
        low, high, _ = slice(start, end, step).indices(shape[axis])
        source.require(low < high, "must not be empty", [start, end])
        if (low, high, step) != (0, shape[axis], 1):
            high = MAX_INTEGER if high == shape[axis] else high  # the end moves along when channels are cut
            cuts.append({"dim": axis % len(shape), "start": low, "end": high, "step": step})
    if not cuts:
        graph.alias(source.outputs[0], x)
    for index, cut in enumerate(cuts):
        last = index == len(cuts) - 1
        name = source.name if last else graph.node_name(f"{source.name}/{index}")
        x = graph.emit(name, "slice", [x], source.outputs if last else "", parameters=None, before=None, **cut)


def _slice_ranges(source: Source, graph: Translation) -> tuple[tuple[int, ...], ...]:
    """Ranges are attributes before operator set 10, inputs since."""
    starts, ends, axes = (source.integers(name) for name in ("starts", "ends", "axes"))
    steps = None
    if starts is None or ends is None:
        starts, ends = graph.integers(source, 1, "start"), graph.integers(source, 2, "end")
        axes = graph.integers(source, 3, "list of axes") if source.has(3) else None
        steps = graph.integers(source, 4, "step") if source.has(4) else None
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    source.require(len({len(starts), len(ends), len(axes), len(steps)}) == 1, "must have as many ends as starts")
    return starts, ends, axes, steps


@translates("Gather")
def gather(source: Source, graph: Translation) -> None:
    """One entry, or a range of them."""
    x = source.inputs[0]
    indices = graph.constant(source, 1, "index")
    axis = source.integer("axis", 0)
    shape = graph.shape(x)
    source.require(-len(shape) <= axis < len(shape), "must have an axis of its input", axis)
    size = shape[axis]
    chosen = [int(index) % size for index in graph.integers(source, 1, "index") if -size <= index < size]
    source.require(len(chosen) == indices.numel() > 0, "must have indices inside its input")
    if indices.ndim == 0:
        graph.emit(source.name, "select", [x], source.outputs, dim=axis, index=chosen[0])
        return
    if len(shape) == 1 and chosen == list(range(size)):  # how as_strided on contiguous values is exported
        emit_reshape(graph, source.name, x, tuple(indices.shape), source.outputs[0])
        return
    adjacent = indices.ndim == 1 and chosen == list(range(chosen[0], chosen[0] + len(chosen)))
    source.require(adjacent, "must take one entry or adjacent ones", chosen[:16])
    graph.emit(source.name, "slice", [x], source.outputs, dim=axis, start=chosen[0], end=chosen[-1] + 1)


@translates("Expand")
def expand(source: Source, graph: Translation) -> None:
    """Only dimensions that really grow are written down."""
    x = source.inputs[0]
    shape, target = graph.shape(x), graph.integers(source, 1, "shape")
    rank = max(len(shape), len(target))
    aligned = (1,) * (rank - len(shape)) + shape
    wanted = (1,) * (rank - len(target)) + target
    fits = all(new in (1, old) or old == 1 for old, new in zip(aligned, wanted, strict=True))
    source.require(fits, "must expand dimensions of one", list(target))
    _grow(source, graph, x, tuple(max(old, new) for old, new in zip(aligned, wanted, strict=True)))


@translates("Tile")
def tile(source: Source, graph: Translation) -> None:
    """Only dimensions of one can be repeated."""
    x = source.inputs[0]
    shape, repeats = graph.shape(x), graph.integers(source, 1, "number of repeats")
    fits = len(repeats) == len(shape) and all(
        n == 1 or (size == 1 and n > 0) for n, size in zip(repeats, shape, strict=True)
    )
    source.require(fits, "must repeat dimensions of one", list(repeats))
    _grow(source, graph, x, tuple(n * size for n, size in zip(repeats, shape, strict=True)))


def _grow(source: Source, graph: Translation, x: str, target: Shape) -> None:
    shape = graph.shape(x)
    if shape == target:
        graph.alias(source.outputs[0], x)
        return
    aligned = (0,) * (len(target) - len(shape)) + shape
    rule = tuple(-1 if old == new else new for old, new in zip(aligned, target, strict=True))
    graph.emit(source.name, "expand", [x], source.outputs, shape=rule)


@translates("Pad")
def pad(source: Source, graph: Translation) -> None:
    """Padding is an attribute before operator set 11, an input since; axes may be chosen from 18 on."""
    x = source.inputs[0]
    rank = len(graph.shape(x))
    pads, value = source.integers("pads"), source.number("value", 0.0)
    if pads is None:
        pads = graph.integers(source, 1, "padding")
        value = float(graph.constant(source, 2, "value").reshape(-1)[0]) if source.has(2) else 0.0
    axes = graph.integers(source, 3, "list of axes") if source.has(3) else tuple(range(rank))
    source.require(len(pads) == 2 * len(axes), "must have two pads per axis", list(pads))
    source.require(all(-rank <= axis < rank for axis in axes), "must name its input's axes", list(axes))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(source.text("mode", "constant"))
    source.require(mode is not None, "must pad by a constant, by reflection or by the edge")
    both = {axis % rank: (pads[index], pads[index + len(axes)]) for index, axis in enumerate(axes)}
    if not any(any(pair) for pair in both.values()):
        graph.alias(source.outputs[0], x)
        return
    first = min(axis for axis, pair in both.items() if any(pair))
    first = min(first, 2) if mode != "constant" else first
    padding = tuple(size for axis in reversed(range(first, rank)) for size in both.get(axis, (0, 0)))
    value = max(min(value, torch.finfo(torch.float32).max), torch.finfo(torch.float32).min)
    graph.emit(source.name, "pad", [x], source.outputs, padding=padding, mode=mode, value=value)


@translates("Resize", "Upsample")
def resize(source: Source, graph: Translation) -> None:
    """Enlarging by a whole number, the ways that torch knows."""
    x = source.inputs[0]
    shape = graph.shape(x)
    factor = _whole_factor(source, graph, shape)
    mode = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}.get(source.text("mode", "nearest"))
    source.require(mode is not None, "must be nearest, linear or cubic")
    usual = "asymmetric" if source.op == "Upsample" else "half_pixel"
    where = source.text("coordinate_transformation_mode", usual)
    if mode == "nearest":
        floored = source.text("nearest_mode", "round_prefer_floor") == "floor" or source.op == "Upsample"
        same = where == "asymmetric" and floored
        same = same or (where in ("half_pixel", "pytorch_half_pixel") and not floored)
    else:
        same = where in ("half_pixel", "pytorch_half_pixel", "align_corners")
        same = same and (mode != "bicubic" or source.number("cubic_coeff_a", -0.75) == -0.75)
        same = same and source.integer("exclude_outside", 0) == 0
    source.require(same, "must map pixels as torch does", where)
    aligned = where == "align_corners"
    graph.emit(source.name, "resize", [x], source.outputs, scale=factor, mode=mode, align_corners=aligned)


def _whole_factor(source: Source, graph: Translation, shape: Shape) -> int:
    """Return the one factor of all spatial dimensions, from scales or from sizes."""
    scales: list[float] = []
    position = 1 if source.op == "Upsample" else 2
    if source.has(position) and graph.constant(source, position, "scale").numel():
        scales = [float(item) for item in graph.constant(source, position, "scale").reshape(-1).tolist()]
    elif source.has(3):
        sizes = graph.integers(source, 3, "size")
        source.require(len(sizes) == len(shape), "must have a size per dimension", list(sizes))
        scales = [new / old for new, old in zip(sizes, shape, strict=True)]
    fits = len(scales) == len(shape) >= 3 and scales[:2] == [1.0, 1.0] and len(set(scales[2:])) == 1
    source.require(fits and scales[2] >= 1 and scales[2].is_integer(), "must enlarge by one whole factor", scales)
    return int(scales[2])


@translates("DepthToSpace")
def depth_to_space(source: Source, graph: Translation) -> None:
    """Only with the channels of one pixel block adjacent, as torch has them."""
    source.require(source.text("mode", "DCR") == "CRD", "must have mode CRD", source.text("mode", "DCR"))
    factor = source.integer("blocksize", 0)
    source.require(factor > 0, "must have a positive block size", factor)
    graph.emit(source.name, "pixel_shuffle", [source.inputs[0]], source.outputs, factor=factor)
