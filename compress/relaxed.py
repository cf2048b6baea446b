"""A network between its choices: every layer computes a weighted mean of what it would compute under each of them.

The shares of the choices are the only inputs that have a gradient. They need not be probabilities: with all of a
share on one choice, the network is the one that this choice leads to.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compress.apply import Prepared
from compress.calibration import ActivationGrid, Histogram, solve_grid
from compress.network.graph import Graph, Network, Node
from compress.network.ops import OPS, run_node
from compress.network.ops.elementwise import quantize
from compress.placement import LAYER_OPS, insert, place
from compress.plan import OperatorChoice, Plan
from compress.quantizers import QUANTIZERS
from compress.repair import MAX_GAIN, ChannelStatistics, channel_axis
from compress.runner import run
from compress.weights import WeightFormat
from compress.workload import workload

MIX = "mix"
"""Operator of the nodes that take the mean of a block's alternatives; they never leave this module."""

LEAST_SAMPLES = 32
"""Values per channel from which on a layer's output is repaired: fewer say little about mean and spread."""

_TINY = 1e-12
_UNSOLVED = ActivationGrid(scale=1.0, zero_point=0, low=0, high=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternatives:
    """What parts of a network may become, each in the order of its shares.

    ``operators`` is by block, the original among them if it may stay. ``groups`` are the channel groups whose channels
    may go. ``weights`` and ``activations`` are by layer of the float network; those of a replacement follow the layer
    in whose place they stand. What is not named stays float.
    """

    operators: Mapping[str, tuple[OperatorChoice, ...]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    weights: Mapping[str, tuple[WeightFormat, ...]] = field(default_factory=dict)
    activations: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How much of each alternative: one number per choice, and per channel of every group how much of it stays."""

    operators: Mapping[str, Tensor]
    channels: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    activations: Mapping[str, Tensor]


class RelaxedNetwork:
    """Runs as one network, one convolution per layer, whatever the number of widths.

    A convolution is linear in its weight and in its input, so the mean over pairs of widths is the convolution of the
    mean quantized input with the mean quantized weight. Rounding passes the gradient on where nothing is clipped.
    Channels that go in part have that part of their weights in the layers that read them. Replacements of a block run
    beside it, and their outputs are mixed.

    What is left out, compared with applying a plan: weights are rounded to nearest, whatever the plan's rounding, and
    before channels go; nothing is equalised; ranges are those of the float network; operands of additions have scales
    of their own; biases stay off the accumulators' grids; channel groups that a replacement would hold are cut; what a
    normalisation across channels reads has zeros where channels are gone.

    Source: Cai and Vasconcelos 2020, "Rethinking Differentiable Search for Mixed-Precision Neural Networks",
    arXiv:2004.05795 (composite convolution).

    Args:
        prepared: From ``prepare``.
        plan: Its numerics and repair.
        alternatives: What its shares are of.
    """

    def __init__(self, prepared: Prepared, plan: Plan, alternatives: Alternatives) -> None:
        self._plan = plan
        self._alternatives = alternatives
        self._float = prepared.structure.prepared(prepared.network).folded
        self._uses = Counter(name for node in self._float.graph.nodes for name in (*node.parameters.values(),))
        self._origin: dict[str, str] = {}  # of renamed nodes and values
        unmixed, graph, tensors = self._beside(prepared)
        self._tensors = {name: tensor.detach() for name, tensor in tensors.items()}
        self.effort = _macs(unmixed, tensors) / max(1, _macs(self._float.graph, self._float.tensors))
        """What a pass takes, as a multiple of one of the float network; without roundings and means."""
        self._owners = {
            node.name: owner for node in graph.nodes if (owner := self._owner(node)) is not None
        }  # by quantized layer
        self._stacks = {name: self._rounded(prepared, graph.node(name), owner) for name, owner in self._owners.items()}
        self._reach = _reach(prepared, set(alternatives.groups))
        # A label below zero stands for the widths of a layer: nodes that have them share their quantizers.
        labels = {owner: -1 - number for number, owner in enumerate(alternatives.activations)}
        widths = {name: labels[owner] for name, owner in self._owners.items() if owner in labels}
        points = place(graph, widths, plan.numerics.other_bits, plan.numerics.function_inputs)
        self.graph = insert(graph, points, dict.fromkeys(points, _UNSOLVED))
        layers = {label: owner for owner, label in labels.items()}
        self._layer_of = {point.node_name: layers.get(point.bits) for point in points}
        self._origin.update({point.node_name: self._named(point.value) for point in points})
        self._grids = self._solved(prepared, unmixed)

    def __call__(self, images: Tensor, shares: Shares, wanted: Mapping[str, ChannelStatistics] | None = None) -> Tensor:
        """Return the network's first output.

        Args:
            images: As the network takes them.
            shares: Of all alternatives.
            wanted: Statistics that repair gives to layers' outputs, by value of the float network, of these images.
        """
        graph = self.graph
        left = Counter(value for node in graph.nodes for value in node.inputs)
        left.update(graph.outputs)
        values = {graph.inputs[0]: images}
        for node in graph.nodes:
            values.update(self._run(node, values, shares, wanted or {}))
            left.subtract(node.inputs)
            for value in (*node.inputs, *node.outputs):
                if left[value] <= 0:
                    values.pop(value, None)
        return values[graph.outputs[0]]

    def _run(
        self, node: Node, values: Mapping[str, Tensor], shares: Shares, wanted: Mapping[str, ChannelStatistics]
    ) -> dict[str, Tensor]:
        if node.op == "quantize":
            layer = self._layer_of[node.name]
            share = torch.ones(1) if layer is None else shares.activations[layer]
            mean: Tensor = _MeanOnGrids.apply(values[node.inputs[0]], share, self._grids[node.name])  # type: ignore[no-untyped-call]
            return {node.name: mean}
        if node.op == MIX:
            return {node.outputs[0]: _mean([values[name] for name in node.inputs], shares.operators[node.name])}
        if node.op == "matmul":
            factors = {name: self._masked(values[name], name, shares) for name in node.inputs if name in values}
            return run_node(node, factors, self._tensors)
        if not OPS[node.op].weighted:
            return run_node(node, values, self._tensors)
        tensors = dict(self._tensors)
        if node.name in self._stacks:
            weight = _mean(self._stacks[node.name], shares.weights[self._owners[node.name]])
            tensors[node.parameters["weight"]] = weight
        source, read = node.inputs[0], dict(values)
        if _dense(node):
            tensors[node.parameters["weight"]] = self._cut(node, tensors[node.parameters["weight"]], shares, values)
        elif node.attributes.get("groups") != values[source].shape[1]:  # depthwise: those that read its output are cut
            read[source] = self._masked(values[source], source, shares)
        (value,) = run_node(node, read, tensors).values()
        statistics = wanted.get(self._named(node.outputs[0]))
        return {node.outputs[0]: value if statistics is None else self._repaired(node, value, statistics)}

    def _cut(self, node: Node, weight: Tensor, shares: Shares, values: Mapping[str, Tensor]) -> Tensor:
        """Return a dense layer's weight without what reads channels that go."""
        axis = channel_axis(node, tuple(values[node.inputs[0]].shape))
        mask = self._mask(node.inputs[0], axis, values[node.inputs[0]].shape[axis], shares)
        if mask is None:
            return weight
        inputs = 0 if node.op == "conv_transpose" else 1
        shape = [1] * weight.ndim
        shape[inputs] = -1
        return weight * mask.reshape(shape)

    def _masked(self, value: Tensor, name: str, shares: Shares) -> Tensor:
        for axis in self._reach.get(self._named(name), {}):
            mask = self._mask(name, axis, value.shape[axis], shares)
            shape = [1] * value.ndim
            shape[axis] = -1
            value = value if mask is None else value * mask.reshape(shape)
        return value

    def _mask(self, name: str, axis: int, size: int, shares: Shares) -> Tensor | None:
        members = self._reach.get(self._named(name), {}).get(axis)
        if members is None:
            return None
        mask = torch.ones(size)
        for group, where, which in members:
            mask = mask.index_copy(0, where, shares.channels[group][which])
        return mask

    def _repaired(self, node: Node, value: Tensor, wanted: ChannelStatistics) -> Tensor:
        """Return a layer's output with the statistics wanted, as ``compress.repair`` does, with a gradient.

        A gain at its bound counts as one that still follows: there the gradient is too small.
        """
        if any(self._uses[name] > 1 for name in node.parameters.values()):
            return value
        axis = channel_axis(node, tuple(value.shape))
        rows = value.movedim(axis, 1)
        if rows.numel() < LEAST_SAMPLES * rows.shape[1] or rows.shape[1] != len(wanted.mean):
            return value
        if "bias" in node.parameters:
            found, _, inverse = _normalised(rows, wanted.std, wanted.mean)
            spread = _bounded(wanted.std, inverse.detach())
            if not torch.equal(spread, wanted.std):
                found, _, _ = _normalised(rows, spread, wanted.mean)
            return found.movedim(1, axis)
        others = [dimension for dimension in range(rows.ndim) if dimension != 1]
        inverse = (rows.var(others, correction=0) + _TINY).rsqrt()
        factor = _bounded(wanted.std, inverse.detach()) * inverse
        return (rows * factor.reshape(1, -1, *(1,) * (rows.ndim - 2))).movedim(1, axis)

    def _beside(self, prepared: Prepared) -> tuple[Graph, Graph, dict[str, Tensor]]:
        """Return the graph with every replacement beside its block, unmixed and mixed, and all tensors."""
        structure, tensors = prepared.structure, dict(self._float.tensors)
        graph = mixed = self._float.graph
        whole_first = sorted(self._alternatives.operators, key=lambda name: len(structure.block(name).nodes))
        for name in whole_first:  # stages after the blocks that they consist of
            block, inputs = structure.block(name), []
            before = f"{block.exit}|{name}"
            for number, choice in enumerate(self._alternatives.operators[name]):
                if choice.operator == "original":
                    inputs.append(before)
                    continue
                replacement = structure.prepared(prepared.network).replacement(name, choice)
                tensors.update({f"{key}|{name}|{number}": tensor for key, tensor in replacement.tensors.items()})
                nodes, renamed = self._renamed(replacement.nodes, f"|{name}|{number}", replacement.tensors)
                shapes = {**self._float.graph.shapes, **replacement.shapes}
                added = {new: shapes[old] for old, new in renamed.items()}
                graph = _with_nodes(graph, block.exit, nodes, added)
                mixed = _with_nodes(mixed, block.exit, nodes, added)
                end = replacement.exit_becomes or block.exit
                inputs.append(renamed.get(end, end))
            mixed = _mixing(mixed, name, block.exit, before, tuple(inputs))
            self._origin[before] = block.exit
        return graph, _alive(mixed), tensors

    def _renamed(self, nodes: Sequence[Node], suffix: str, own: Iterable[str]) -> tuple[list[Node], dict[str, str]]:
        """Return nodes under names of their own, and the new name of every value that they write."""
        renamed = {value: f"{value}{suffix}" for node in nodes for value in node.outputs}
        tensors = {name: f"{name}{suffix}" for name in own}
        found = []
        for node in nodes:
            found.append(
                replace(
                    node,
                    name=f"{node.name}{suffix}",
                    inputs=tuple(renamed.get(value, tensors.get(value, value)) for value in node.inputs),
                    outputs=tuple(renamed[value] for value in node.outputs),
                    parameters={role: tensors.get(name, name) for role, name in node.parameters.items()},
                )
            )
            self._origin[f"{node.name}{suffix}"] = node.name
        self._origin.update({new: old for old, new in renamed.items()})
        return found, renamed

    def _named(self, name: str) -> str:
        """Return the name that a node or value has in the float network, or in the replacement that it is of."""
        return self._origin.get(name, name)

    def _owner(self, node: Node) -> str | None:
        """Return the layer whose bits a node has; ``None`` if it stays float."""
        if node.op not in LAYER_OPS:
            return None
        name = self._named(node.name)
        known = self._alternatives.weights
        owner = max((layer for layer in known if f"{name}/".startswith(f"{layer}/")), key=len, default=None)
        if owner is None or any(node.op not in QUANTIZERS.get(row.quantizer).layer_ops for row in known[owner]):
            return None
        return owner if self._tensors[node.parameters["weight"]].is_floating_point() else None

    def _rounded(self, prepared: Prepared, node: Node, owner: str) -> list[Tensor]:
        """Return a layer's weight in each of its formats, in the operator's own layout."""
        numerics, axis = self._plan.numerics, 1 if node.op == "conv_transpose" else 0
        formats = [replace(format, axis=axis) for format in self._alternatives.weights[owner]]
        weight = self._tensors[node.parameters["weight"]]
        return [prepared.cache.encode(weight, format, numerics).decode(numerics) for format in formats]

    def _solved(self, prepared: Prepared, unmixed: Graph) -> dict[str, list[ActivationGrid]]:
        """Return the grids of every quantizer, one per width of the layer that reads it, from the float values."""
        histograms: dict[str, Histogram] = {}

        def observe(name: str, node: Node | None, value: Tensor) -> Tensor:
            if value.is_floating_point():
                histograms[name] = Histogram()
                histograms[name].observe(value)
            return value

        images = prepared.images if prepared.range_images is None else prepared.range_images
        run(Network(graph=unmixed, tensors=self._tensors), images, observe)
        numerics = self._plan.numerics
        found = {}
        for node in self.graph.nodes:
            if node.op == "quantize":
                layer = self._layer_of[node.name]
                widths = (numerics.other_bits,) if layer is None else self._alternatives.activations[layer]
                value = node.inputs[0]
                found[node.name] = [
                    solve_grid(
                        histograms[value if value in histograms else self._named(value)],
                        bits,
                        method=numerics.activation_range,
                        activation_type=numerics.activation_type,
                        scale_format=numerics.scale_format,
                    )
                    for bits in widths
                ]
        return found


_Members = list[tuple[str, Tensor, Tensor]]  # group, positions along the axis, the group's channel at each


def _reach(prepared: Prepared, groups: set[str]) -> dict[str, dict[int, _Members]]:
    """Return which positions of which values belong to which channels, by value and axis."""
    found: dict[str, dict[int, _Members]] = {}
    for group in prepared.structure.groups.groups:
        for member in group.values if group.name in groups else ():
            where, which = (torch.from_numpy(np.ascontiguousarray(part)) for part in member.positions())
            found.setdefault(member.name, {}).setdefault(member.axis, []).append((group.name, where, which))
    return found


def _with_nodes(graph: Graph, exit_: str, nodes: Sequence[Node], shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """Return the graph with more nodes, right behind the one that writes ``exit_``."""
    place = next(number for number, node in enumerate(graph.nodes) if exit_ in node.outputs) + 1
    return replace(graph, nodes=(*graph.nodes[:place], *nodes, *graph.nodes[place:]), shapes={**graph.shapes, **shapes})


def _mixing(graph: Graph, name: str, exit_: str, before: str, inputs: tuple[str, ...]) -> Graph:
    """Return the graph in which the block's exit is a mean of ``inputs``; what wrote it writes ``before``."""
    nodes = [
        replace(node, outputs=tuple(before if value == exit_ else value for value in node.outputs))
        for node in graph.nodes
    ]
    place = max(
        number for number, node in enumerate(nodes) if set(inputs) & set(node.outputs) or before in node.outputs
    )
    mix = Node(name=name, op=MIX, inputs=inputs, outputs=(exit_,), attributes={}, parameters={})
    shapes = {**graph.shapes, before: graph.shapes[exit_]}
    return replace(graph, nodes=(*nodes[: place + 1], mix, *nodes[place + 1 :]), shapes=shapes)


def _alive(graph: Graph) -> Graph:
    """Return the graph without nodes that no output depends on: blocks that cannot stay as they are."""
    wanted, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    return graph.with_nodes(reversed(kept))


def _macs(graph: Graph, tensors: Mapping[str, Tensor]) -> int:
    return workload(Network(graph=graph, tensors=tensors).to_meta(), Plan()).macs


def _dense(node: Node) -> bool:
    return node.op == "linear" or (node.op in LAYER_OPS and node.attributes["groups"] == 1)


def _normalised(rows: Tensor, spread: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return values with this spread and mean in every channel, their mean before, and one over their spread before."""
    return torch.native_batch_norm(rows, spread, mean, None, None, True, 0.0, _TINY)


def _bounded(wanted: Tensor, inverse: Tensor) -> Tensor:
    """Return the spread that repair gives: by no gain beyond its bounds, and none where the float network's is zero."""
    gain = wanted * inverse
    bounded = gain.clamp(1 / MAX_GAIN, MAX_GAIN)
    return torch.where(wanted > 0, torch.where(gain == bounded, wanted, bounded / inverse), 1 / inverse)


class _MeanOnGrids(torch.autograd.Function):
    """Rounds a value to several grids and takes their mean; in a few passes over memory."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, share: Tensor, grids: Sequence[ActivationGrid]) -> Tensor:
        """Return the mean; ``share`` has a number per grid."""
        rounded = [_on_grid(value.detach(), grid) for grid in grids]
        ctx.save_for_backward(value, share, *rounded)
        ctx.grids = grids
        return _mean(rounded, share)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients for the value (where a grid clips it, without that grid's share) and the shares."""
        value, share, *rounded = ctx.saved_tensors
        by_value = None
        if ctx.needs_input_grad[0]:
            ends = [
                ((grid.low - grid.zero_point) * grid.scale, (grid.high - grid.zero_point) * grid.scale)
                for grid in ctx.grids
            ]
            passed = [torch.ops.aten.hardtanh_backward(grad, value, *end) for end in ends]
            by_value = _mean(passed, share)
        flat = grad.reshape(-1)
        return by_value, torch.stack([torch.dot(flat, part.reshape(-1)) for part in rounded]), None


def _on_grid(value: Tensor, grid: ActivationGrid) -> Tensor:
    return quantize(value, scale=grid.scale, zero_point=grid.zero_point, low=grid.low, high=grid.high)


def _mean(parts: Sequence[Tensor], share: Tensor) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    found = parts[0] * share[0]
    for part, weight in zip(parts[1:], share[1:], strict=True):
        found = torch.addcmul(found, part, weight)
    return found
