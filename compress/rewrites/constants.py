"""Which channels of which values are the same number for every image and everywhere in the image."""

from collections.abc import Mapping

import torch
from torch import Tensor

from compress.network.graph import Network, Node
from compress.network.ops import OPS, run_node
from hwmodels.workload import KernelKind

Constants = Mapping[str, Tensor]
"""By value, one float64 per position of axis 1: the constant, or not a number where it varies."""

_POINTWISE = frozenset(name for name, op in OPS.items() if op.kind is KernelKind.ELEMENTWISE and name != "prelu")
_POOLS = frozenset({"global_avg_pool", "global_max_pool", "max_pool", "resize"})


def channel_constants(network: Network) -> Constants:
    """Return what is known of the values that have channels along axis 1; values that are left out vary everywhere."""
    graph = network.graph
    known: dict[str, Tensor] = {}
    for node in graph.nodes:
        found = _constants(node, network, known)
        if found is not None and not bool(found.isnan().all()):
            known[node.outputs[0]] = found
    return known


def mixes_channels(node: Node, network: Network) -> bool:
    """Whether a node is a layer whose outputs each depend on several input channels."""
    if node.op == "linear":
        return True
    if node.op not in ("conv", "conv_transpose"):
        return False
    groups = node.attributes["groups"]
    return groups == 1 or groups != network.graph.shapes[node.inputs[0]][1]


def without_border(node: Node) -> bool:
    """Whether a layer treats a channel that is the same everywhere alike everywhere."""
    if node.op == "linear":
        return True
    padding = node.attributes["padding"]
    return node.op == "conv" and isinstance(padding, tuple) and not any(padding)


def _constants(node: Node, network: Network, known: Mapping[str, Tensor]) -> Tensor | None:
    shapes, value = network.graph.shapes, node.inputs[0]
    if node.op in ("conv", "linear"):
        return _of_layer(node, network, known) if node.op == "conv" or len(shapes[value]) == 2 else None
    if node.op == "concat" and node.attributes["dim"] == 1:
        parts = [
            known.get(name, torch.full((shapes[name][1],), torch.nan, dtype=torch.float64)) for name in node.inputs
        ]
        return torch.cat(parts)
    if node.op == "batch_norm":
        return _of_batch_norm(node, network, known.get(value))
    if node.op in _POINTWISE and all(_meet(shapes.get(name), shapes.get(value)) for name in node.inputs):
        return _of_pointwise(node, network, known)
    if value not in known:
        return None
    if node.op == "slice":
        return _sliced(node, known[value])
    if node.op == "pad" and node.attributes["mode"] == "constant":
        return _padded(node, known[value], len(shapes[value]))
    if node.op in _POOLS:
        return known[value]
    if node.op == "avg_pool":
        return known[value].masked_fill(known[value] != 0, torch.nan) if any(_sizes(node, "padding")) else known[value]
    if node.op == "mean" and set(_sizes(node, "dims")) == {2, 3}:
        return known[value]
    if node.op in ("flatten", "reshape") and len(shapes[node.outputs[0]]) == 2:
        return known[value].repeat_interleave(shapes[node.outputs[0]][1] // len(known[value]))
    return None


def _of_layer(node: Node, network: Network, known: Mapping[str, Tensor]) -> Tensor:
    """Output channels that read nothing that varies: zeros, or constants that make the same everywhere."""
    weight, groups = network.tensors[node.parameters["weight"]], node.attributes.get("groups", 1)
    if not isinstance(groups, int):
        raise TypeError(f"{node.name}: groups must be an integer, got {groups!r}")
    inner = network.graph.shapes[node.inputs[0]][1]
    read = known.get(node.inputs[0], torch.full((inner,), torch.nan, dtype=torch.float64))
    if not without_border(node):
        read = read.masked_fill(read != 0, torch.nan)
    rows = zip(weight.chunk(groups), read.chunk(groups), strict=True)
    share = torch.cat([_share(part.flatten(2) if part.ndim > 2 else part[..., None], of) for part, of in rows])
    return share + network.tensors[node.parameters["bias"]].to(torch.float64) if "bias" in node.parameters else share


def _share(weight: Tensor, read: Tensor) -> Tensor:
    """Return the outputs of ``weight`` ``(out, in, taps)`` without bias; large weights are not copied whole."""
    varies = read.isnan()
    if bool(varies.all()):
        return torch.where(weight.any(2).any(1), torch.nan, torch.zeros(len(weight), dtype=torch.float64))
    constant = weight[:, ~varies].to(torch.float64).sum(2) @ read[~varies]
    return torch.where(weight[:, varies].any(2).any(1), torch.nan, constant)


def _of_batch_norm(node: Node, network: Network, read: Tensor | None) -> Tensor:
    scale, shift, mean, variance = (
        network.tensors[node.parameters[role]].to(torch.float64)
        for role in ("weight", "bias", "running_mean", "running_var")
    )
    eps = node.attributes["eps"]
    if not isinstance(eps, float):
        raise TypeError(f"{node.name}: eps must be a number, got {eps!r}")
    varies = torch.full_like(shift, torch.nan) if read is None else read
    return torch.where(scale == 0, shift, (varies - mean) * scale / torch.sqrt(variance + eps) + shift)


def _of_pointwise(node: Node, network: Network, known: Mapping[str, Tensor]) -> Tensor | None:
    """Compute the node on constants; a product with zero is zero whatever the other factor is."""
    size = network.graph.shapes[node.inputs[0]][1]
    read = [known.get(name, torch.full((size,), torch.nan, dtype=torch.float64)) for name in node.inputs]
    values = {name: value[None] for name, value in zip(node.inputs, read, strict=True)}
    made = run_node(node, values, network.tensors)[node.outputs[0]][0]
    varies = torch.stack([value.isnan() for value in read]).any(0)  # not every operator hands these on
    made = torch.where(varies | ~made.isfinite(), torch.nan, made)
    if node.op == "mul":
        made = torch.where(torch.stack([value == 0 for value in read]).any(0), 0.0, made)
    return made


def _sliced(node: Node, read: Tensor) -> Tensor:
    dim, start, end, step = (node.attributes[key] for key in ("dim", "start", "end", "step"))
    return read[slice(start, end, step)] if dim == 1 else read


def _padded(node: Node, read: Tensor, rank: int) -> Tensor:
    """A border of another number ends a constant; channels that are padded on are constants of their own."""
    padding = _sizes(node, "padding")
    border = float(node.attributes["value"])  # type: ignore[arg-type]
    pairs = [padding[index : index + 2] for index in range(0, len(padding), 2)]  # from the last axis backwards
    around = [pair for index, pair in enumerate(pairs) if index != rank - 2 and any(pair)]
    before, after = pairs[rank - 2] if len(pairs) > rank - 2 else (0, 0)
    if min(before, after) < 0:
        return torch.full((len(read) + before + after,), torch.nan, dtype=torch.float64)
    inside = torch.where(read == border, read, torch.nan) if around else read
    return torch.nn.functional.pad(inside, (before, after), value=border)


def _meet(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> bool:
    """Whether two activations have equally many channels along axis 1, and otherwise at most broadcast."""
    return one is not None and other is not None and len(one) == len(other) > 1 and one[1] == other[1]


def _sizes(node: Node, key: str) -> tuple[int, ...]:
    value = node.attributes[key]
    if not isinstance(value, tuple):
        raise TypeError(f"{node.name}: {key} must be integers, got {value!r}")
    return tuple(int(item) % 4 if key == "dims" else int(item) for item in value)
