"""How each operator carries channel labels from its inputs to its outputs (see ``channels``).

An operator without a rule pins everything it reads: never wrong, only less to prune. ``tests`` hold every rule to the
values: cutting must equal zeroing.
"""

from collections.abc import Callable

import numpy as np

from compress.network.channels import Axes, ChannelLabels, Labels, concatenated, pin_all, reshaped
from compress.network.graph import Network, Node
from compress.network.ops import OPS
from hwmodels.workload import KernelKind

ChannelRule = Callable[[Node, ChannelLabels], list[Axes]]


def label_channels(network: Network) -> ChannelLabels:
    """Return the labels of every value and tensor of the network."""
    labels = ChannelLabels(network)
    for value in network.graph.inputs:
        labels.axes[value] = (None,) * len(labels.shape(value))
    for node in network.graph.nodes:
        axes = _RULES.get(node.op, _unknown)(node, labels)
        labels.axes.update(zip(node.outputs, axes, strict=True))
    for value in network.graph.outputs:
        pin_all(labels, labels.of(value), f"channels of {value!r} are the network's output")
    return labels


def _attribute(node: Node, key: str) -> int:
    value = node.attributes[key]
    if not isinstance(value, int):
        raise TypeError(f"{node.name}: {key} must be an integer, got {value!r}")
    return value


def _integers(node: Node, key: str) -> tuple[int, ...]:
    value = node.attributes[key]
    if not isinstance(value, tuple):
        raise TypeError(f"{node.name}: {key} must be integers, got {value!r}")
    return tuple(int(item) for item in value)


def _dim(node: Node, rank: int) -> int:
    return _attribute(node, "dim") % rank


def _plain(node: Node, labels: ChannelLabels) -> list[Axes]:
    """Axes without labels for every output of the node."""
    return [(None,) * len(labels.shape(value)) for value in node.outputs]


def _unknown(node: Node, labels: ChannelLabels) -> list[Axes]:
    for value in node.inputs:
        pin_all(labels, labels.of(value), f"{node.op} ({node.name}) has no rule for cutting channels")
    return _plain(node, labels)


def _pinned_except(node: Node, labels: ChannelLabels, axes: Axes, kept: int) -> Labels | None:
    """Return the labels of the axis ``kept``; labels elsewhere are pinned."""
    kept %= len(axes)
    reason = f"{node.op} ({node.name}) needs every position of this axis"
    pin_all(labels, (axis for index, axis in enumerate(axes) if index != kept), reason)
    return axes[kept]


# --- layers -----------------------------------------------------------------------------------------------------


def _convolution(node: Node, labels: ChannelLabels) -> list[Axes]:
    """Dense, depthwise (channels pass) or grouped (equal positions of all groups go together)."""
    axes = labels.of(node.inputs[0])
    inner = _pinned_except(node, labels, axes, 1)
    weight, groups = node.parameters["weight"], _attribute(node, "groups")
    size_in, size_out = labels.shape(node.inputs[0])[1], labels.shape(node.outputs[0])[1]
    axis_in, axis_out = (1, 0) if node.op == "conv" else (0, 1)
    if groups > 1 and groups == size_in:
        outer = None if inner is None else np.repeat(inner, size_out // groups)
        labels.use(weight, 0, outer if node.op == "conv" else inner)
    else:
        outer = labels.source(node, size_out)
        labels.use(weight, axis_in, _one_group(labels, inner, groups) if node.op == "conv" else inner)
        if groups > 1:
            _one_group(labels, inner, groups)
        labels.use(weight, axis_out, outer if node.op == "conv" else _one_group(labels, outer, groups))
        _one_group(labels, outer, groups)
    if "bias" in node.parameters:
        labels.use(node.parameters["bias"], 0, outer)
    return [(None, outer, *([None] * (len(axes) - 2)))]


def _one_group(labels: ChannelLabels, axis: Labels | None, groups: int) -> Labels | None:
    """Force equal positions of all groups together; return the first group's labels."""
    if axis is None:
        return None
    rows = axis.reshape(groups, -1)
    first: Labels = rows[0]
    labels.unify(rows, first)
    return first


def _linear(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = labels.of(node.inputs[0])
    labels.use(node.parameters["weight"], 1, axes[-1])
    outer = labels.source(node, labels.shape(node.outputs[0])[-1])
    labels.use(node.parameters["weight"], 0, outer)
    if "bias" in node.parameters:
        labels.use(node.parameters["bias"], 0, outer)
    return [(*axes[:-1], outer)]


def _channelwise(node: Node, labels: ChannelLabels) -> list[Axes]:
    """Parameters with one entry per channel (dimension 1): batch norm, instance norm, PReLU."""
    axes = labels.of(node.inputs[0])
    for tensor in node.parameters.values():
        if labels.shape(tensor)[0] == labels.shape(node.inputs[0])[1]:
            labels.use(tensor, 0, axes[1])
    return [axes]


def _group_norm(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = _channelwise(node, labels)
    _one_group(labels, axes[0][1], _attribute(node, "groups"))
    return axes


def _layer_norm(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = labels.of(node.inputs[0])
    for tensor in node.parameters.values():
        rank = len(labels.shape(tensor))
        for axis in range(rank):
            labels.use(tensor, axis, axes[axis - rank])
    return [axes]


# --- element by element -----------------------------------------------------------------------------------------


def _same(node: Node, labels: ChannelLabels) -> list[Axes]:
    return [labels.of(node.inputs[0])]


def _broadcast(node: Node, labels: ChannelLabels) -> list[Axes]:
    """Two operands, aligned at their last axes; axes of size one are repeated."""
    shape = labels.shape(node.outputs[0])
    outputs: list[Labels | None] = []
    for axis in range(-len(shape), 0):
        meeting = [value for value in node.inputs if _size(labels, value, axis) == shape[axis]]
        outputs.append(_met(node, labels, meeting, axis))
    return [tuple(outputs)]


def _size(labels: ChannelLabels, value: str, axis: int) -> int:
    shape = labels.shape(value)
    return shape[axis] if -axis <= len(shape) else 0


def _met(node: Node, labels: ChannelLabels, values: list[str], axis: int) -> Labels | None:
    """Return the labels of an axis along which values meet position by position; constants are cut with the others."""
    reason = f"{node.op} ({node.name}) meets a value whose channels stay"
    constants = [value for value in values if labels.is_constant(value)]
    activations = [labels.of(value)[axis] for value in values if value not in constants]
    result = activations[0] if activations else None
    for other in activations[1:]:
        result = labels.join(result, other, reason)
    for value in constants:
        if result is None:
            labels.pin(labels.of(value)[axis], reason)
        labels.use(value, axis % len(labels.shape(value)), result)
    return result


# --- pooling and reductions -------------------------------------------------------------------------------------


def _pool(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = labels.of(node.inputs[0])
    channels = _pinned_except(node, labels, axes, 1)
    return [(None, channels, *([None] * (len(axes) - 2)))]


def _reduction(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = labels.of(node.inputs[0])
    dims = {dim % len(axes) for dim in _integers(node, "dims")}
    pin_all(labels, (axes[dim] for dim in dims), f"{node.op} ({node.name}) runs over these channels")
    if node.attributes["keepdim"]:
        return [tuple(None if index in dims else axis for index, axis in enumerate(axes))]
    return [tuple(axis for index, axis in enumerate(axes) if index not in dims)]


def _softmax(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = labels.of(node.inputs[0])
    labels.pin(axes[_dim(node, len(axes))], f"{node.op} ({node.name}) runs over these channels")
    return [axes]


# --- movement ---------------------------------------------------------------------------------------------------


def _reshape(node: Node, labels: ChannelLabels) -> list[Axes]:
    before, after = labels.shape(node.inputs[0]), labels.shape(node.outputs[0])
    reason = f"{node.op} ({node.name}) mixes these channels with another axis"
    return [reshaped(labels, labels.of(node.inputs[0]), before, after, reason)]


def _permute(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = labels.of(node.inputs[0])
    return [tuple(axes[dim] for dim in _integers(node, "dims"))]


def _expand(node: Node, labels: ChannelLabels) -> list[Axes]:
    before, after = labels.shape(node.inputs[0]), labels.shape(node.outputs[0])
    axes = labels.of(node.inputs[0])
    extra = len(after) - len(before)
    return [
        tuple(
            axes[index - extra] if index >= extra and before[index - extra] == size else None
            for index, size in enumerate(after)
        )
    ]


def _repeat_batch(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = labels.of(node.inputs[0])
    if not labels.is_constant(node.inputs[0]):
        return [axes]
    # The constant gets labels of its own: what it is joined with later decides which of them go.
    shape = labels.shape(node.inputs[0])
    outputs: list[Labels | None] = [None] * len(shape)
    for axis in range(1, len(shape)):
        if shape[axis] > 1:
            outputs[axis] = labels.fresh(shape[axis])
            labels.use(node.inputs[0], axis, outputs[axis])
    return [tuple(outputs)]


def _concat(node: Node, labels: ChannelLabels) -> list[Axes]:
    rank = len(labels.shape(node.outputs[0]))
    dim = _dim(node, rank)
    parts = [(labels.of(value)[dim], labels.shape(value)[dim]) for value in node.inputs]
    reason = f"{node.op} ({node.name}) joins it with a value whose channels stay"
    joined = concatenated(labels, parts, reason)
    return [tuple(joined if axis == dim else _met(node, labels, list(node.inputs), axis) for axis in range(rank))]


def _split(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = labels.of(node.inputs[0])
    dim = _dim(node, len(axes))
    channels = axes[dim]
    results: list[Axes] = []
    start = 0
    for value in node.outputs:
        size = labels.shape(value)[dim]
        piece = None if channels is None else channels[start : start + size]
        results.append((*axes[:dim], piece, *axes[dim + 1 :]))
        start += size
    if channels is not None and node.attributes["sizes"] is None:  # parts must stay equal
        _one_group(labels, channels, _attribute(node, "parts"))
    return results


def _slice(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = labels.of(node.inputs[0])
    dim = _dim(node, len(axes))
    channels = axes[dim]
    start, end, step = (_attribute(node, key) for key in ("start", "end", "step"))
    if channels is not None and step != 1:
        labels.pin(channels, f"{node.op} ({node.name}) takes every {step}th channel")
    piece = None if channels is None else channels[start:end:step]
    return [(*axes[:dim], piece, *axes[dim + 1 :])]


def _select(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = labels.of(node.inputs[0])
    dim = _dim(node, len(axes))
    labels.pin(axes[dim], f"{node.op} ({node.name}) takes one position of this axis")
    return [(*axes[:dim], *axes[dim + 1 :])]


def _pad(node: Node, labels: ChannelLabels) -> list[Axes]:
    """Zero channels that are padded on get labels of their own: what they are added to decides which of them go."""
    axes = list(labels.of(node.inputs[0]))
    padding = _integers(node, "padding")
    for index in range(len(padding) // 2):
        axis, before, after = len(axes) - 1 - index, padding[2 * index], padding[2 * index + 1]
        channels = axes[axis]
        if channels is None or (before == 0 and after == 0):
            continue
        if node.attributes["mode"] != "constant" or before < 0 or after < 0:
            labels.pin(channels, f"{node.op} ({node.name}) repeats or crops these channels")
            axes[axis] = None
        else:
            axes[axis] = np.concatenate([labels.fresh(before), channels, labels.fresh(after)])
    return [tuple(axes)]


def _pixel_shuffle(node: Node, labels: ChannelLabels) -> list[Axes]:
    """Channel ``c * f * f + i`` becomes part of channel ``c``: all ``f * f`` of them go together."""
    axes = labels.of(node.inputs[0])
    channels = _pinned_except(node, labels, axes, 1)
    factor = _attribute(node, "factor")
    if channels is not None:
        rows = channels.reshape(-1, factor * factor)
        labels.unify(rows, rows[:, :1])
        channels = np.ascontiguousarray(rows[:, 0])
    return [(None, channels, None, None)]


def _pixel_unshuffle(node: Node, labels: ChannelLabels) -> list[Axes]:
    axes = labels.of(node.inputs[0])
    channels = _pinned_except(node, labels, axes, 1)
    factor = _attribute(node, "factor")
    return [(None, None if channels is None else np.repeat(channels, factor * factor), None, None)]


# --- products ---------------------------------------------------------------------------------------------------


def _matmul(node: Node, labels: ChannelLabels) -> list[Axes]:
    """Contract the last axis of the first operand with the last but one of the second."""
    first, second = (labels.of(value) for value in node.inputs)
    if min(len(first), len(second)) < 2:
        return _unknown(node, labels)
    for value, axis, other in ((node.inputs[0], -1, second[-2]), (node.inputs[1], -2, first[-1])):
        if labels.is_constant(value):
            labels.use(value, len(labels.shape(value)) + axis, other)
    if not any(labels.is_constant(value) for value in node.inputs):
        labels.join(first[-1], second[-2], f"{node.op} ({node.name}) multiplies it with a value whose channels stay")
    shape = labels.shape(node.outputs[0])
    batch = []
    for axis in range(-len(shape), -2):
        meeting = [value for value in node.inputs if _size(labels, value, axis) == shape[axis]]
        batch.append(_met(node, labels, meeting, axis))
    return [(*batch, first[-2], second[-1])]


_RULES: dict[str, ChannelRule] = {
    **{name: _same for name, op in OPS.items() if op.kind is KernelKind.ELEMENTWISE and op.inputs == (1, 1)},
    **{name: _broadcast for name, op in OPS.items() if op.kind is KernelKind.ELEMENTWISE and op.inputs == (2, 2)},
    **dict.fromkeys(("conv", "conv_transpose"), _convolution),
    "linear": _linear,
    **dict.fromkeys(("batch_norm", "instance_norm", "prelu"), _channelwise),
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    **dict.fromkeys(("max_pool", "avg_pool", "global_avg_pool", "global_max_pool", "resize"), _pool),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "norm"), _reduction),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("flatten", "reshape", "squeeze", "unsqueeze"), _reshape),
    "permute": _permute,
    "expand": _expand,
    "repeat_batch": _repeat_batch,
    "concat": _concat,
    "split": _split,
    "slice": _slice,
    "select": _select,
    "pad": _pad,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "matmul": _matmul,
}
