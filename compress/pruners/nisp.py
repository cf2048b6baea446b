"""NISP: importance of the last features, carried back through absolute weights."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.network.graph import Attribute, Network, Node
from compress.network.groups import ChannelGroups
from compress.network.ops import OPS, run_node
from compress.pruners.base import PRUNERS, Scores, gathered
from compress.pruners.infinite_selection import infinite_selection
from compress.rewrites import fold_batch_norm
from compress.runner import run
from hwmodels.workload import KernelKind


class NISP:
    """Scores all layers at once by what their channels contribute to the features before the classifier.

    These features (the input of every layer that no other layer follows) are ranked by infinite feature selection on
    calibration images, or all alike without images. The ranking ``s`` goes back by ``s_in = |W|^T s_out``; activations
    pass it on unchanged, pooling spreads it evenly, an addition hands it to both operands, a product of activations
    likewise. For 1-Lipschitz activations ``sum_j s_j |x_j|`` over removed channels bounds the weighted change of the
    features. A channel's score is the sum over its positions, relative to the mean of its layer; layers that are cut
    together add up. Batch norm is folded first; biases do not matter.

    Source: Yu et al. 2018, "NISP: Pruning Networks using Neuron Importance Score Propagation", CVPR, section 3. The
    propagation runs in float64 and is not rescaled between layers.
    """

    def scores(self, network: Network, groups: ChannelGroups, images: Tensor | None = None) -> Scores:
        """Return the propagated importance per channel, summed over the layers of each group."""
        folded = fold_batch_norm(network)
        importances = propagated(folded, _last_features(folded, images))
        outputs = {node.name: node.outputs[0] for node in folded.graph.nodes}
        found: dict[str, Tensor] = {}
        for group in groups.groups:
            written = {outputs[layer] for layer in group.layers}
            total = torch.zeros(group.channels, dtype=torch.float64)
            for member in group.values:
                if member.name in written:
                    importance = importances[member.name].transpose(0, member.axis).flatten(1).sum(1)
                    mean = importance.mean().clamp_min(torch.finfo(torch.float64).tiny)
                    total += gathered(group, member, importance / mean)
            found[group.name] = total
        return found


PRUNERS.register("nisp")(NISP())


def propagated(network: Network, seeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the importance of every position of every value, given that of some values (the shape of one image).

    The network of absolute weights is linear, so that its gradient is the propagation: one forward and one backward
    pass for one image.
    """
    graph = network.graph
    values = {name: torch.ones(graph.shapes[name], dtype=torch.float64, requires_grad=True) for name in graph.inputs}
    tensors = {
        name: tensor.detach().to(torch.float64).abs() if tensor.is_floating_point() else tensor
        for name, tensor in network.tensors.items()
    }
    with torch.enable_grad():
        for node in graph.nodes:
            for name, value in _absolute(node, values, tensors).items():
                values[name] = value if value.requires_grad else value.clone().requires_grad_()
        target = sum((values[name] * seed.to(torch.float64)).sum() for name, seed in seeds.items())
    names = [name for name in values if name in graph.shapes]
    gradients = torch.autograd.grad(target, [values[name] for name in names], allow_unused=True)  # type: ignore[arg-type]
    return {
        name: torch.zeros(graph.shapes[name], dtype=torch.float64) if gradient is None else gradient
        for name, gradient in zip(names, gradients, strict=True)
    }


def _last_features(network: Network, images: Tensor | None) -> dict[str, Tensor]:
    """Return the importance of the values that the last layers read, in the shape of one image."""
    graph = network.graph
    above: set[str] = set()  # values from which another layer can be reached
    last: list[Node] = []
    for node in reversed(graph.nodes):
        if OPS[node.op].weighted and above.isdisjoint(node.outputs):
            last.append(node)
        if OPS[node.op].weighted or not above.isdisjoint(node.outputs):
            above.update(node.inputs)
    seeds: dict[str, Tensor] = {node.inputs[0]: torch.ones(graph.shapes[node.inputs[0]]) for node in last}
    if images is None:
        return seeds
    axes = {node.inputs[0]: -1 if node.op == "linear" else 1 for node in last}
    features: dict[str, Tensor] = {}

    def keep(name: str, node: Node | None, value: Tensor) -> Tensor:
        if name in axes:
            features[name] = value.movedim(axes[name], 1).flatten(2).mean(2) if value.ndim > 2 else value
        return value

    run(network, images, keep)
    for name, seed in seeds.items():
        shape = [1] * seed.ndim
        shape[axes[name]] = -1
        seeds[name] = infinite_selection(features[name]).clamp_min(0).reshape(shape).expand_as(seed)
    return seeds


def _absolute(node: Node, values: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compute a node of the network of absolute weights; ``tensors`` are absolute already."""
    op = OPS[node.op]
    inputs = [values[name] if name in values else tensors[name] for name in node.inputs]
    if op.weighted:
        options = {**node.attributes, "weight": tensors[node.parameters["weight"]]}
        return {node.outputs[0]: op.run(inputs[0], **options)}
    if "weight" in node.parameters and op.kind is KernelKind.NORMALISATION:
        return {node.outputs[0]: inputs[0] * _scale(node, inputs[0], tensors)}
    if op.kind in (KernelKind.ELEMENTWISE, KernelKind.NORMALISATION):
        return {node.outputs[0]: inputs[0] if len(inputs) == 1 else _joined(node, inputs, values)}
    if op.kind is KernelKind.MATMUL:
        first, second = inputs
        depth = first.shape[-1]
        return {node.outputs[0]: (first @ torch.ones_like(second) + torch.ones_like(first) @ second) / depth}
    if op.kind is KernelKind.POOL:
        return {node.outputs[0]: _evenly(node, inputs[0])}
    return run_node(node, values, tensors)


def _joined(node: Node, inputs: list[Tensor], values: Mapping[str, Tensor]) -> Tensor:
    """Hand importance to both operands; a constant factor scales it, a constant term does not matter."""
    first, second = inputs
    if all(name in values for name in node.inputs):
        return first + second
    if node.op in ("mul", "div"):
        return first * second if node.op == "mul" else first / second
    return first + second * 0 if node.inputs[0] in values else first * 0 + second


def _scale(node: Node, value: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return what a normalisation multiplies with; of those that use the values at hand only the learnt factor."""
    weight = tensors[node.parameters["weight"]]
    if node.op == "batch_norm":
        eps = node.attributes["eps"]
        if not isinstance(eps, float):
            raise TypeError(f"{node.name}: eps must be a number, got {eps!r}")
        weight = weight / torch.sqrt(tensors[node.parameters["running_var"]] + eps)
    if node.op == "layer_norm":
        return weight
    return weight.reshape(-1, *([1] * (value.ndim - 2)))


def _evenly(node: Node, value: Tensor) -> Tensor:
    """Pool so that each window's importance is spread evenly over it."""
    if node.op == "max_pool":
        keys = ("kernel", "stride", "padding", "ceil_mode")
        options: dict[str, Attribute] = {key: node.attributes[key] for key in keys}
        pooled: Tensor = OPS["avg_pool"].run(value, **options, count_include_pad=True)
        return pooled
    if node.op in ("avg_pool", "global_avg_pool", "mean", "sum"):
        result: Tensor = OPS[node.op].run(value, **node.attributes)
        return result
    if node.op == "global_max_pool":
        return F.adaptive_avg_pool2d(value, (1, 1)) if value.ndim == 4 else F.adaptive_avg_pool1d(value, 1)
    options = {key: node.attributes[key] for key in ("dims", "keepdim")}
    reduced: Tensor = OPS["mean"].run(value, **options)
    return reduced
