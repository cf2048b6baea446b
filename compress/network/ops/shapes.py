"""Shape rules: what shape an operator's outputs have, from the shapes of its inputs and of its weight.

Plain integer arithmetic, because candidates are priced by the thousand: torch's own ``meta`` device gives the same
shapes (the tests compare them) but takes a thousand times longer. The rules refuse shapes that do not fit together, so
a network whose shapes can be found also runs.
"""

import math
from collections.abc import Sequence
from typing import Any

from compress.network.graph import Node
from compress.network.ops.spec import MAX_INTEGER, Shape
from hwmodels.errors import InputError

MAX_ELEMENTS = 2**31


class ShapeError(InputError):
    """The shapes of a node's inputs, weight and attributes do not fit together."""

    code = "shape_mismatch"


def require(condition: bool, node: Node, rule: str, value: object = None) -> None:
    """Raise ``ShapeError`` that names ``node`` unless ``condition`` holds."""
    if not condition:
        raise ShapeError(f"node {node.name!r} ({node.op})", rule, value)


def same(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """One output, shaped as the first input."""
    return (inputs[0],)


def broadcast(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Shapes aligned from the right; a size of one stretches."""
    return (_broadcast(node, inputs),)


def _broadcast(node: Node, shapes: Sequence[Shape]) -> Shape:
    rank = max(len(shape) for shape in shapes)
    aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    sizes = []
    for column in zip(*aligned, strict=True):
        stretched = {size for size in column if size != 1}
        require(len(stretched) <= 1, node, "the inputs' shapes must broadcast", [list(shape) for shape in shapes])
        sizes.append(stretched.pop() if stretched else 1)
    return tuple(sizes)


def per_channel(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """As the input, whose dimension 1 must be as long as the weight (or the weight has one value: ``prelu``)."""
    shape = inputs[0]
    assert weight is not None
    require(len(shape) >= 2, node, "the input must have channels", list(shape))
    fits = weight[0] == shape[1] or (node.op == "prelu" and weight[0] == 1)
    require(fits, node, f"the weight has {weight[0]} channels, the input must too", list(shape))
    groups = attribute(node, "groups", 1)
    require(shape[1] % groups == 0, node, f"{groups} groups must divide the channels", shape[1])
    return (shape,)


def layer_norm(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """As the input, whose trailing dimensions must be the weight's."""
    assert weight is not None
    require(inputs[0][-len(weight) :] == weight, node, f"the input must end in {list(weight)}", list(inputs[0]))
    return (inputs[0],)


def along_dim(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """As the input, which must have the dimension ``dim``."""
    dimension(node, inputs[0])
    return (inputs[0],)


def conv(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Convolution, plain or transposed."""
    shape = inputs[0]
    assert weight is not None
    spatial = len(weight) - 2
    require(len(shape) == len(weight), node, f"the input must have {len(weight)} dimensions", list(shape))
    groups = attribute(node, "groups", 1)
    forward = node.op == "conv"
    takes, gives = (weight[1] * groups, weight[0]) if forward else (weight[0], weight[1] * groups)
    require(shape[1] == takes, node, f"the weight takes {takes} channels, the input must have as many", shape[1])
    require(weight[0] % groups == 0, node, f"{groups} groups must divide the weight's channels", weight[0])
    stride, padding, dilation = (sizes(node, name, spatial) for name in ("stride", "padding", "dilation"))
    if forward:
        image = _windows(node, shape[2:], weight[2:], stride, padding, dilation)
    else:
        extra = sizes(node, "output_padding", spatial)
        image = tuple(
            (size - 1) * s - 2 * p + d * (k - 1) + e + 1
            for size, k, s, p, d, e in zip(shape[2:], weight[2:], stride, padding, dilation, extra, strict=True)
        )
        require(min(image) >= 1, node, "the image must not vanish", list(image))
    return ((shape[0], gives, *image),)


def linear(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """The last dimension becomes the weight's first."""
    assert weight is not None
    last = inputs[0][-1] if inputs[0] else None
    require(last == weight[1], node, f"the weight takes {weight[1]} features, the input must have as many", last)
    return ((*inputs[0][:-1], weight[0]),)


def pool(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Windows of a fixed size."""
    shape = inputs[0]
    kernel = node.attributes["kernel"]
    assert isinstance(kernel, tuple)
    spatial = len(kernel)
    require(spatial in (1, 2) and len(shape) == spatial + 2, node, "the kernel must fit the input's rank", list(shape))
    stride, padding = (sizes(node, name, spatial) for name in ("stride", "padding"))
    dilation = sizes(node, "dilation", spatial) if "dilation" in node.attributes else (1,) * spatial
    window: Any = kernel
    require(
        all(2 * p <= k for p, k in zip(padding, window, strict=True)), node, "padding must be at most half a window"
    )
    image = _windows(node, shape[2:], window, stride, padding, dilation, ceil=bool(node.attributes["ceil_mode"]))
    return ((*shape[:2], *image),)


def _windows(
    node: Node,
    image: Shape,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *,
    ceil: bool = False,
) -> Shape:
    result = []
    for size, k, s, p, d in zip(image, kernel, stride, padding, dilation, strict=True):
        room = size + 2 * p - d * (k - 1) - 1
        count = (-(-room // s) if ceil else room // s) + 1
        require(count >= 1, node, f"a window of {k} must fit the padded image", list(image))
        if ceil and (count - 1) * s >= size + p:
            count -= 1  # torch drops a last window that would start in the padding
        result.append(count)
    return tuple(result)


def global_pool(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Every spatial dimension becomes one."""
    shape = inputs[0]
    require(len(shape) in (3, 4), node, "the input must have one or two spatial dimensions", list(shape))
    return ((*shape[:2], *(1,) * (len(shape) - 2)),)


def reduce(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """The dimensions ``dims`` become one or disappear."""
    gone = dimensions(node, inputs[0])
    keep = bool(node.attributes["keepdim"])
    return (tuple(1 if i in gone else size for i, size in enumerate(inputs[0]) if keep or i not in gone),)


def matmul(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Matrices in the last two dimensions; the others broadcast."""
    left, right = inputs
    require(min(len(left), len(right)) >= 2, node, "both inputs must be matrices", [list(left), list(right)])
    require(left[-1] == right[-2], node, "columns must match rows", [list(left), list(right)])
    return ((*_broadcast(node, (left[:-2], right[:-2])), left[-2], right[-1]),)


def flatten(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """The dimensions ``start_dim`` to ``end_dim`` become one."""
    shape = inputs[0]
    first, last = dimension(node, shape, "start_dim"), dimension(node, shape, "end_dim")
    require(first <= last, node, "start_dim must not come after end_dim")
    return ((*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]),)


def reshape(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """``shape`` with 0 copied from the input and one -1 inferred."""
    shape, target = inputs[0], node.attributes["shape"]
    assert isinstance(target, tuple)
    copied = all(size != 0 or index < len(shape) for index, size in enumerate(target))
    require(copied and target.count(-1) <= 1, node, "the shape must copy known dimensions and infer one", list(target))
    result = [shape[index] if size == 0 else int(size) for index, size in enumerate(target)]
    elements, known = math.prod(shape), math.prod(size for size in result if size != -1)
    if -1 in result:
        require(known > 0 and elements % known == 0, node, f"{list(target)} must hold the input", list(shape))
        result[result.index(-1)] = elements // known
    require(math.prod(result) == elements, node, f"{list(target)} must hold the input", list(shape))
    return (tuple(result),)


def permute(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """The dimensions in the order ``dims``."""
    dims = _listed_dims(node, inputs[0])
    require(sorted(dims) == list(range(len(inputs[0]))), node, "dims must name every dimension once", list(dims))
    return (tuple(inputs[0][dim] for dim in dims),)


def squeeze(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """The dimensions ``dims`` disappear; each must be of size one."""
    gone = dimensions(node, inputs[0])
    require(all(inputs[0][dim] == 1 for dim in gone), node, "only a dimension of one can be squeezed", list(inputs[0]))
    return (tuple(size for i, size in enumerate(inputs[0]) if i not in gone),)


def unsqueeze(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """A dimension of one appears at ``dim``."""
    at = dimension(node, (*inputs[0], 1))
    return ((*inputs[0][:at], 1, *inputs[0][at:]),)


def expand(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """``shape``, with -1 copied from the input, aligned from the right."""
    shape, target = inputs[0], node.attributes["shape"]
    assert isinstance(target, tuple)
    require(len(target) >= len(shape), node, "the shape must have at least the input's rank", list(target))
    aligned = (0,) * (len(target) - len(shape)) + shape
    result = tuple(old if new == -1 else int(new) for old, new in zip(aligned, target, strict=True))
    fits = all(old in (new, 1) or (old == 0 and new > 0) for old, new in zip(aligned, result, strict=True))
    require(fits, node, f"the input must expand to {list(target)}", list(shape))
    return (result,)


def repeat_batch(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """The first input, with dimension 0 as long as ``dim`` of the second."""
    constant, like = inputs
    require(bool(constant) and constant[0] == 1, node, "the constant must have a batch of one", list(constant))
    return ((like[dimension(node, like)], *constant[1:]),)


def concat(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """The inputs one after the other along ``dim``."""
    at = dimension(node, inputs[0])
    rest = {(*shape[:at], *shape[at + 1 :]) for shape in inputs}
    require(len(rest) == 1, node, f"the inputs must agree beside dimension {at}", [list(shape) for shape in inputs])
    return ((*inputs[0][:at], sum(shape[at] for shape in inputs), *inputs[0][at + 1 :]),)


def split(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Pieces of ``sizes`` along ``dim``, or ``parts`` equal ones."""
    shape, pieces, parts = inputs[0], node.attributes["sizes"], attribute(node, "parts", 1)
    at = dimension(node, shape)
    if pieces is None:
        require(shape[at] % parts == 0, node, f"dimension {at} must divide into {parts} parts", shape[at])
        pieces = (shape[at] // parts,) * parts
    assert isinstance(pieces, tuple)
    require(len(pieces) == len(node.outputs), node, "there must be one output per piece", len(node.outputs))
    require(sum(pieces) == shape[at], node, f"the pieces must add up to {shape[at]}", list(pieces))
    return tuple((*shape[:at], int(size), *shape[at + 1 :]) for size in pieces)


def slice_(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Every ``step``-th entry of ``start``..``end`` along ``dim``."""
    shape = inputs[0]
    at = dimension(node, shape)
    start, end, step = (attribute(node, name, 0) for name in ("start", "end", "step"))
    length = len(range(*slice(start, end, step).indices(shape[at])))
    require(length > 0, node, "the slice must not be empty", [start, end, step])
    return ((*shape[:at], length, *shape[at + 1 :]),)


def select(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Dimension ``dim`` disappears."""
    at, index = dimension(node, inputs[0]), attribute(node, "index", 0)
    size = inputs[0][at]
    require(-size <= index < size, node, f"the index must be inside a dimension of {size}", index)
    return ((*inputs[0][:at], *inputs[0][at + 1 :]),)


def pad(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Pairs (before, after) from the last dimension backwards are added."""
    shape, padding = list(inputs[0]), node.attributes["padding"]
    assert isinstance(padding, tuple)
    require(len(padding) % 2 == 0 and len(padding) // 2 <= len(shape), node, "padding must be pairs", list(padding))
    if node.attributes["mode"] != "constant":
        fits = len(padding) // 2 in ((1,) if len(shape) == 3 else (2,)) and len(shape) in (3, 4)
        require(fits, node, "reflecting or replicating must pad the spatial dimensions", list(padding))
    for index in range(len(padding) // 2):
        before, after = int(padding[2 * index]), int(padding[2 * index + 1])
        size = shape[-1 - index]
        inside = node.attributes["mode"] != "reflect" or max(before, after) < size
        require(inside and size + min(before, 0) + min(after, 0) > 0, node, "the padding must fit", list(padding))
        shape[-1 - index] = size + before + after
    return (tuple(shape),)


def resize(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Every spatial dimension times ``scale``."""
    shape, factor = inputs[0], attribute(node, "scale", 1)
    ranks = (3, 4) if node.attributes["mode"] == "nearest" else (4,)
    require(len(shape) in ranks, node, "the input must be an image", list(shape))
    return ((*shape[:2], *(size * factor for size in shape[2:])),)


def pixel_shuffle(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Channels to space."""
    shape, f = inputs[0], attribute(node, "factor", 1)
    require(len(shape) == 4 and shape[1] % (f * f) == 0, node, f"channels must divide by {f * f}", list(shape))
    return ((shape[0], shape[1] // (f * f), shape[2] * f, shape[3] * f),)


def pixel_unshuffle(node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
    """Space to channels."""
    shape, f = inputs[0], attribute(node, "factor", 1)
    fits = len(shape) == 4 and shape[2] % f == 0 and shape[3] % f == 0
    require(fits, node, f"the image must divide by {f}", list(shape))
    return ((shape[0], shape[1] * f * f, shape[2] // f, shape[3] // f),)


def attribute(node: Node, name: str, default: int) -> int:
    """Return an integer attribute, or ``default`` where the operator has none of that name."""
    value = node.attributes.get(name, default)
    assert isinstance(value, int)
    return value


def sizes(node: Node, name: str, spatial: int) -> tuple[int, ...]:
    """Return an attribute with one entry per spatial dimension."""
    value = node.attributes[name]
    assert isinstance(value, tuple)
    require(len(value) == spatial, node, f"{name} must have {spatial} entries", list(value))
    return tuple(int(item) for item in value)


def dimension(node: Node, shape: Shape, name: str = "dim") -> int:
    """Return the attribute ``name`` as an index into ``shape``, counted from the front."""
    value = attribute(node, name, 0)
    require(-len(shape) <= value < len(shape), node, f"{name} must be a dimension of the input", value)
    return value % len(shape)


def dimensions(node: Node, shape: Shape) -> set[int]:
    """Return the attribute ``dims`` as a set of indices into ``shape``; they must differ."""
    listed = _listed_dims(node, shape)
    require(len(set(listed)) == len(listed) > 0, node, "dims must be different dimensions", list(listed))
    return set(listed)


def _listed_dims(node: Node, shape: Shape) -> tuple[int, ...]:
    dims = node.attributes["dims"]
    assert isinstance(dims, tuple)
    require(all(-len(shape) <= dim < len(shape) for dim in dims), node, "dims must be the input's", list(dims))
    return tuple(int(dim) % len(shape) for dim in dims)


def checked_size(node: Node, shapes: Sequence[Shape]) -> None:
    """Refuse outputs that no device could hold, before anyone multiplies with them."""
    for shape in shapes:
        require(len(shape) <= 8 and math.prod(shape) <= MAX_ELEMENTS, node, "the output is too large", list(shape))
        require(all(0 < size <= MAX_INTEGER for size in shape), node, "sizes must be positive", list(shape))
