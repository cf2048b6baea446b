"""From a float network and a plan to the compressed network: operators, channels, folding, bits."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

from torch import Tensor

from compress.calibration import ActivationGrid, Histogram, solve_grid
from compress.network.graph import Graph, Network, Node
from compress.placement import QuantizePoint, insert, place, scales
from compress.plan import Numerics, Plan
from compress.pruners import PRUNERS, Scores
from compress.repair import ChannelRepair, ChannelStatistics, channel_statistics, corrected, targets
from compress.runner import run
from compress.structure import Structure, restructured
from compress.weights import (
    CodedWeight,
    accumulator_steps,
    assign_formats,
    encode,
    on_accumulator_grid,
    with_gain,
)
from hwmodels.errors import UnknownNameError


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A network as it will be deployed.

    ``network`` is the final graph, with ``quantize`` nodes, and the float values that the codes stand for: running it
    simulates the integer network. ``coded`` has what is stored of every quantized weight, by tensor name.
    ``float_layers`` are the layers that the plan gives bits to but that stay float, with the reason.
    """

    network: Network
    coded: Mapping[str, CodedWeight]
    plan: Plan
    float_layers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What all plans of one network share; made by ``prepare``.

    ``statistics`` are the float network's, per channel of every layer's output. The ranking of channels is found when
    a plan first asks for a pruner, and kept.
    """

    network: Network
    images: Tensor
    structure: Structure
    statistics: Mapping[str, ChannelStatistics]
    _scores: dict[str, Scores] = field(default_factory=dict, init=False, repr=False, compare=False)

    def scores(self, pruner: str) -> Scores:
        """Return the score of every channel by group."""
        if pruner not in self._scores:
            self._scores[pruner] = PRUNERS.get(pruner).scores(self.network, self.structure.groups, self.images)
        return self._scores[pruner]


def prepare(network: Network, calibration: Tensor, *, structure: Structure) -> Prepared:
    """Return what every plan of ``network`` needs.

    Args:
        network: The ingested float network.
        calibration: Images as the network takes them; of large networks only so many are used that no activation of
            all of them together takes more than ``CALIBRATION_VALUES``.
        structure: The network's, from ``analyse``.
    """
    largest = max(prod(shape) for shape in network.graph.shapes.values())
    images = calibration[: max(1, CALIBRATION_VALUES // largest)]
    folded = structure.prepared(network).folded
    return Prepared(network=network, images=images, structure=structure, statistics=channel_statistics(folded, images))


def apply(prepared: Prepared, plan: Plan) -> Compressed:
    """Return the network that ``plan`` leads to. Equal plans give equal networks, bit for bit.

    Raises:
        InputError: The plan names what the network does not have, or asks for what a method does not offer.
    """
    if plan.repair not in REPAIRS:
        raise UnknownNameError("repair", f"must be one of {', '.join(REPAIRS)}", plan.repair)
    scores = prepared.scores(plan.pruner) if plan.keep_ratios else None
    result = restructured(prepared.network, plan, structure=prepared.structure, scores=scores)
    wanted = (
        targets(prepared.statistics, prepared.network, prepared.structure, result)
        if plan.repair == "channel_statistics"
        else {}
    )
    return quantize(result.network, plan, prepared.images, wanted)


def quantize(
    network: Network, plan: Plan, images: Tensor, wanted: Mapping[str, ChannelStatistics] | None = None
) -> Compressed:
    """Return a restructured network with the bits of ``plan``.

    Weights become codes first. One pass over ``images`` then runs the network as it will be deployed, value by value:
    each layer's output is given the mean and spread ``wanted`` (gains go into the weights' scales, shifts into biases),
    and each quantizer takes its range from the value that it is about to read. So repair makes up for cut channels,
    rounded weights and clipped activations alike, and later layers see what earlier ones really hand them.
    """
    assignment = assign_formats(network, plan)
    tensors = dict(assignment.network.tensors)
    coded = {name: encode(tensors[name], format, plan.numerics) for name, format in assignment.formats.items()}
    tensors.update({name: weight.decode(plan.numerics) for name, weight in coded.items()})
    points = place(assignment.network.graph, assignment.activation_bits, plan.numerics.other_bits)
    unsolved = insert(assignment.network.graph, points, dict.fromkeys(points, _UNSOLVED))

    calibration = _Calibration(points, plan.numerics)
    repair = ChannelRepair(_repairable(unsolved, wanted or {}))
    run(Network(graph=unsolved, tensors=tensors), images, repair, rewrite=calibration.solve)

    solved = unsolved.with_nodes(calibration.solved.get(node.name, node) for node in unsolved.nodes)
    final = corrected(Network(graph=solved, tensors=tensors), repair.corrections)
    gains = {solved.node(name).parameters["weight"]: found.gain for name, found in repair.corrections.items()}
    coded = {
        name: with_gain(weight, gains[name], plan.numerics) if name in gains else weight
        for name, weight in coded.items()
    }
    tensors = {**final.tensors, **{name: weight.decode(plan.numerics) for name, weight in coded.items()}}
    final = Network(graph=final.graph, tensors=tensors)
    tensors.update(_integer_biases(final, coded, plan.numerics))
    return Compressed(network=final, coded=coded, plan=plan, float_layers=assignment.float_layers)


REPAIRS = ("none", "channel_statistics")

CALIBRATION_VALUES = 1 << 26
"""Most values that one activation may have over all calibration images (256 MiB of float32)."""

_UNSOLVED = ActivationGrid(scale=1.0, zero_point=0, low=0, high=0)


def _repairable(graph: Graph, wanted: Mapping[str, ChannelStatistics]) -> dict[str, ChannelStatistics]:
    """Return ``wanted`` without layers that share a tensor: giving each its own would make the file larger.

    Grouped transposed convolutions are left out, too: their scales are shared between groups.
    """
    uses = Counter(name for node in graph.nodes for name in (*node.parameters.values(), *node.inputs))
    return {
        node.outputs[0]: wanted[node.outputs[0]]
        for node in graph.nodes
        if node.outputs[0] in wanted
        and all(uses[name] == 1 for name in node.parameters.values())
        and not (node.op == "conv_transpose" and node.attributes["groups"] != 1)
    }


def _integer_biases(network: Network, coded: Mapping[str, CodedWeight], numerics: Numerics) -> dict[str, Tensor]:
    """Return the biases of integer layers, rounded to the steps of their accumulators.

    That costs at most half a step, and makes the simulated network equal to integer arithmetic. A bias that layers
    share stays as it is, and so does one beyond 24 bits, which float32 could not hold exactly.
    """
    uses = Counter(name for node in network.graph.nodes for name in node.parameters.values())
    input_scales = scales(network.graph)
    biases: dict[str, Tensor] = {}
    for node in network.graph.nodes:
        weight, name = coded.get(node.parameters.get("weight", "")), node.parameters.get("bias")
        steps = weight and accumulator_steps(weight, input_scales.get(node.inputs[0]), numerics)
        if name is None or steps is None or uses[name] > 1 or len(steps) not in (1, len(network.tensors[name])):
            continue
        if (network.tensors[name].abs() < steps * 2**24).all():
            biases[name] = on_accumulator_grid(network.tensors[name], steps)
    return biases


class _Calibration:
    """Solves every quantizer of a network when the pass over the calibration images reaches it."""

    def __init__(self, points: tuple[QuantizePoint, ...], numerics: Numerics) -> None:
        self._bits = {point.node_name: point.bits for point in points}
        self._numerics = numerics
        self._histograms: dict[str, Histogram] = {}
        self.solved: dict[str, Node] = {}

    def solve(self, node: Node, values: Mapping[str, Tensor]) -> Node:
        """Return ``node``; with the grid that its input asks for, if it is a quantizer."""
        if node.name in self._bits:
            node = replace(node, attributes=self._attributes(node.name, node.inputs[0], values))
            self.solved[node.name] = node
        return node

    def _attributes(self, node_name: str, source: str, values: Mapping[str, Tensor]) -> dict[str, float | int]:
        if source not in self._histograms:
            self._histograms[source] = Histogram()
            self._histograms[source].observe(values[source])
        grid = solve_grid(
            self._histograms[source],
            self._bits[node_name],
            method=self._numerics.activation_range,
            activation_type=self._numerics.activation_type,
            scale_format=self._numerics.scale_format,
        )
        return {"scale": grid.scale, "zero_point": grid.zero_point, "low": grid.low, "high": grid.high}
