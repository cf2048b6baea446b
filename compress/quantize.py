"""A network's bits: weights become codes, and one pass over the calibration images does everything else."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from compress.calibration import ActivationGrid, Histogram, solve_grid
from compress.calibration_pass import CalibrationCache, node_keys
from compress.network.graph import Graph, Network, Node
from compress.operands import OPERAND_SCALES, matched_grids, matched_quantizers
from compress.placement import (
    LAYER_OPS,
    QuantizePoint,
    insert,
    is_solved,
    place,
    quantizers,
    scale_of,
    with_grids,
    without_idle_rectifiers,
)
from compress.plan import Numerics, Plan
from compress.repair import ChannelRepair, ChannelStatistics, channel_axis, corrected
from compress.rounding import DataRounding
from compress.weights import (
    CodedWeight,
    accumulator_steps,
    assign_formats,
    on_accumulator_grid,
    with_gain,
)
from hwmodels.errors import UnknownNameError


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A network as it will be deployed.

    ``network`` is the final graph, with ``quantize`` nodes, and the float values that the codes stand for: running it
    simulates the integer network. ``coded`` has what is stored of every quantized weight, by tensor name.
    ``float_layers`` are the layers that the plan gives bits to but that stay float, with the reason. ``outputs`` are
    the network's for the calibration images, as the pass over them computed them.
    """

    network: Network
    coded: Mapping[str, CodedWeight]
    plan: Plan
    float_layers: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Tensor, ...] = ()


def quantize(
    network: Network,
    plan: Plan,
    images: Tensor,
    wanted: Mapping[str, ChannelStatistics] | None = None,
    *,
    cache: CalibrationCache | None = None,
    histograms: Mapping[str, Histogram] | None = None,
) -> Compressed:
    """Return a restructured network with the bits of ``plan``.

    Weights become codes first. One pass over ``images`` then runs the network as it will be deployed, value by value:
    each layer's output is given the mean and spread ``wanted`` (gains go into the weights' scales, shifts into biases),
    biases are rounded to what an integer accumulator can start from, and each quantizer takes its range from the value
    that it is about to read. So repair makes up for cut channels, rounded weights and clipped activations alike, and
    later layers see what earlier ones really hand them. Operands of an addition whose scales must match are both known
    only at its end, so a pass with separate scales goes before.

    Args:
        network: Batch norm folded.
        plan: Its layers and numerics count here.
        images: Calibration images.
        wanted: Statistics of layers' outputs to restore; ``None``: nothing is repaired.
        cache: Shared by the candidates of a search; always with the same images and histograms.
        histograms: Of the float network's values, where ranges come from if the plan says so; those of other values
            are taken in the pass.
    """
    assignment = assign_formats(network, plan)
    tensors = dict(assignment.network.tensors)
    cache = cache or CalibrationCache(enabled=False)
    coded = {name: cache.encode(tensors[name], format, plan.numerics) for name, format in assignment.formats.items()}
    tensors.update({name: weight.decode(plan.numerics) for name, weight in coded.items()})
    points = place(
        assignment.network.graph,
        assignment.activation_bits,
        plan.numerics.other_bits,
        plan.numerics.function_inputs,
    )
    graph = insert(assignment.network.graph, points, dict.fromkeys(points, _UNSOLVED))
    if _matches_operands(plan.numerics) and (groups := matched_quantizers(graph)):
        separate = replace(plan, numerics=replace(plan.numerics, operand_scales="separate"))
        alone = quantize(network, separate, images, wanted, cache=cache, histograms=histograms)
        nodes = {node.name: node for node in alone.network.graph.nodes}
        graph = with_grids(graph, matched_grids(groups, nodes, plan.numerics))
    unsolved = Network(graph=graph, tensors=tensors)

    stored = _stored(plan.numerics, histograms or {})
    calibration = _Calibration(points, graph, plan.numerics, stored)
    repairable = _repairable(unsolved.graph, wanted or {})
    repair = ChannelRepair(repairable)
    integers = _IntegerLayers(unsolved, coded, plan.numerics, repair, calibration)
    rounding = DataRounding(assignment.network.tensors, plan.numerics)

    def before(node: Node, values: Mapping[str, Tensor]) -> Node:
        name = node.parameters.get("weight", "")
        if rounding.applies_to(node) and name in integers.coded:
            integers.coded[name] = rounding.coded(node, integers.coded[name], values)
            tensors[name] = integers.coded[name].decode(plan.numerics)
        return calibration.solve(node, values)

    keys = node_keys(
        unsolved,
        cache.digests,
        exact=assignment.network.tensors,
        formats=assignment.formats,
        wanted=repairable,
        stored=stored,
        numerics=plan.numerics,
    )
    outputs = cache.run(
        unsolved,
        images,
        repair,
        integers,
        rewrite=before,
        keys=keys,
        replayed=(repair.corrections, calibration.solved),
        state=(integers.coded, integers.biases, tensors),
    )

    solved = unsolved.graph.with_nodes(calibration.solved.get(node.name, node) for node in unsolved.graph.nodes)
    final = corrected(Network(graph=solved, tensors=tensors), repair.corrections)
    weights = {name: weight.decode(plan.numerics) for name, weight in integers.coded.items()}
    tensors = {**final.tensors, **weights, **integers.biases}
    final = Network(graph=without_idle_rectifiers(final.graph), tensors=tensors)
    return Compressed(
        network=final, coded=integers.coded, plan=plan, float_layers=assignment.float_layers, outputs=outputs
    )


ACTIVATION_SOURCES = ("deployed", "float")

_UNSOLVED = ActivationGrid(scale=1.0, zero_point=0, low=0, high=0)


def _matches_operands(numerics: Numerics) -> bool:
    if numerics.operand_scales not in OPERAND_SCALES:
        raise UnknownNameError(
            "numerics.operand_scales", f"must be one of {', '.join(OPERAND_SCALES)}", numerics.operand_scales
        )
    return numerics.operand_scales == "matched"


def _stored(numerics: Numerics, histograms: Mapping[str, Histogram]) -> Mapping[str, Histogram]:
    if numerics.activation_source not in ACTIVATION_SOURCES:
        raise UnknownNameError(
            "numerics.activation_source", f"must be one of {', '.join(ACTIVATION_SOURCES)}", numerics.activation_source
        )
    return histograms if numerics.activation_source == "float" else {}


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


class _IntegerLayers:
    """Gives quantized layers their final scales and biases once repair has looked at their output.

    A bias is rounded to the steps of its layer's accumulator. That costs at most half a step, and makes the simulated
    network equal to integer arithmetic. A bias that layers share stays as it is, and so does one beyond 24 bits, which
    float32 could not hold exactly.
    """

    def __init__(
        self,
        network: Network,
        coded: Mapping[str, CodedWeight],
        numerics: Numerics,
        repair: ChannelRepair,
        calibration: "_Calibration",
    ) -> None:
        self.coded = dict(coded)
        self.biases: dict[str, Tensor] = {}
        self._tensors = network.tensors
        self._numerics = numerics
        self._repair = repair
        self._calibration = calibration
        self._quantizers = quantizers(network.graph)
        self._uses = Counter(name for node in network.graph.nodes for name in node.parameters.values())

    def __call__(self, name: str, node: Node | None, value: Tensor) -> Tensor:
        """Return the layer's output with the bias that it can have."""
        if node is None or node.op not in LAYER_OPS or node.parameters["weight"] not in self.coded:
            return value
        weight, correction = node.parameters["weight"], self._repair.corrections.get(node.name)
        if correction is not None:
            self.coded[weight] = with_gain(self.coded[weight], correction.gain, self._numerics)
        if "bias" not in node.parameters or self._uses[node.parameters["bias"]] > 1:
            return value
        bias = self._tensors[node.parameters["bias"]]
        exact = bias if correction is None else bias * correction.gain + correction.shift
        rounded = self._rounded(exact, node)
        self.biases[node.parameters["bias"]] = rounded
        shape = [1] * value.ndim
        shape[channel_axis(node, tuple(value.shape))] = -1
        return value + (rounded - exact).reshape(shape)

    def _rounded(self, bias: Tensor, node: Node) -> Tensor:
        quantizer = self._quantizers.get(node.inputs[0])
        if quantizer is None:
            return bias
        scale = scale_of(self._calibration.solved[quantizer.name])
        steps = accumulator_steps(self.coded[node.parameters["weight"]], scale, self._numerics)
        if steps is None or len(steps) not in (1, len(bias)) or bool((bias.abs() >= steps * 2**24).any()):
            return bias
        return on_accumulator_grid(bias, steps)


class _Calibration:
    """Solves every quantizer of a network when the pass over the calibration images reaches it.

    Those that have a grid already (``graph``) keep it.
    """

    def __init__(
        self, points: tuple[QuantizePoint, ...], graph: Graph, numerics: Numerics, stored: Mapping[str, Histogram]
    ) -> None:
        self._bits = {point.node_name: point.bits for point in points}
        self._numerics = numerics
        self._histograms = dict(stored)
        self.solved: dict[str, Node] = {
            node.name: node for node in graph.nodes if node.name in self._bits and is_solved(node)
        }

    def solve(self, node: Node, values: Mapping[str, Tensor]) -> Node:
        """Return ``node``; with the grid that its input asks for, if it is a quantizer."""
        if node.name in self.solved:
            return self.solved[node.name]
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
