"""Where activations are quantized: next to what reads them, once, and where a deployed network would store them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import inf

from compress.calibration import ActivationGrid
from compress.network.graph import Graph, Node
from compress.network.ops import make_node
from hwmodels.errors import UnknownNameError

LAYER_OPS = frozenset({"conv", "conv_transpose", "linear"})

OPERAND_OPS = frozenset(
    {"add", "sub", "mul", "maximum", "minimum", "matmul", "avg_pool", "global_avg_pool", "mean", "sum", "resize"}
)
"""Operators that compute with stored values: between quantized layers their operands are quantized, too."""

PASSING_OPS = frozenset(
    {
        "max_pool",
        "global_max_pool",
        "amax",
        "amin",
        "flatten",
        "reshape",
        "permute",
        "squeeze",
        "unsqueeze",
        "expand",
        "slice",
        "select",
        "split",
        "pad",
        "pixel_shuffle",
        "pixel_unshuffle",
    }
)
"""Operators whose output values are values of the input: quantizing before or after them is the same."""


FUNCTION_OPS = frozenset(
    {
        "hard_swish",
        "silu",
        "gelu",
        "mish",
        "sigmoid",
        "hard_sigmoid",
        "tanh",
        "leaky_relu",
        "prelu",
        "elu",
        "selu",
        "softplus",
        "softsign",
    }
)
"""Activation functions that no quantizer can stand for, as it does for a ReLU."""

FUNCTION_INPUTS = ("fused", "stored")

FLOAT_BITS = 32
"""From this width on a value counts as float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizePoint:
    """A value that is quantized to ``bits`` for ``readers``: pairs of a node's name and the position of its input."""

    value: str
    bits: int
    readers: tuple[tuple[str, int], ...]

    @property
    def node_name(self) -> str:
        """Name of the ``quantize`` node."""
        return f"{self.value}/quantize{self.bits}"


def place(
    graph: Graph, activation_bits: Mapping[str, int], other_bits: int, function_inputs: str = "fused"
) -> tuple[QuantizePoint, ...]:
    """Return where the activations of ``graph`` are quantized.

    A layer in ``activation_bits`` reads its input at that width. Operands of additions, products and averages between
    quantized layers are read at ``other_bits``. An activation function reads what its producer has in its accumulators,
    so the quantizer sits behind it. Values that only pass through (maximum, reshape, slice) are quantized once, before
    that, and the inputs of a concatenation behind it, which gives them one common scale; an input that is stored for
    others as well, at that width or more, is read as it is stored. What no quantized layer is above or below of stays
    float, and so do the network's outputs.

    Args:
        graph: A folded network's graph without ``quantize`` nodes.
        activation_bits: Width by name of each quantized layer; 32 leaves its input as it is. Others stay float.
        other_bits: Width of other stored values.
        function_inputs: ``fused`` as said above; ``stored``: those of ``FUNCTION_OPS`` read stored values as additions
            do, as with runtimes that run them by themselves.

    Raises:
        UnknownNameError: There is no such way of feeding functions.
    """
    operand_ops = operand_ops_of(function_inputs)
    inside = _values_between(graph, activation_bits)
    wants = _Wants(graph)
    for node in reversed(graph.nodes):
        if node.op in PASSING_OPS and _keeps_zero(node) and wants.hoist(node):
            continue
        for index, value in enumerate(node.inputs):
            bits = _wanted(node, index, value, activation_bits, other_bits, inside, operand_ops)
            if bits is not None:
                wants.add(value, bits, (node.name, index))
            else:
                wants.keep_float(value)
    return _stored_operands(graph, wants.points())


def operand_ops_of(function_inputs: str) -> frozenset[str]:
    """Return the operators that read stored values between quantized layers.

    Raises:
        UnknownNameError: There is no such way of feeding functions.
    """
    if function_inputs not in FUNCTION_INPUTS:
        raise UnknownNameError(
            "numerics.function_inputs", f"must be one of {', '.join(FUNCTION_INPUTS)}", function_inputs
        )
    return OPERAND_OPS | FUNCTION_OPS if function_inputs == "stored" else OPERAND_OPS


def insert(graph: Graph, points: tuple[QuantizePoint, ...], grids: Mapping[QuantizePoint, ActivationGrid]) -> Graph:
    """Return the graph with a ``quantize`` node at every point, right behind the producer of its value."""
    renamed: dict[tuple[str, int], str] = {}
    behind: dict[str, list[Node]] = defaultdict(list)
    for point in points:
        grid = grids[point]
        quantize = make_node(
            point.node_name,
            "quantize",
            [point.value],
            scale=grid.scale,
            zero_point=grid.zero_point,
            low=grid.low,
            high=grid.high,
        )
        behind[point.value].append(quantize)
        renamed.update(dict.fromkeys(point.readers, point.node_name))
    nodes = [quantize for value in graph.inputs for quantize in behind[value]]
    for node in graph.nodes:
        inputs = tuple(renamed.get((node.name, index), value) for index, value in enumerate(node.inputs))
        nodes.append(replace(node, inputs=inputs))
        nodes.extend(quantize for value in node.outputs for quantize in behind[value])
    shapes = {**graph.shapes, **{point.node_name: graph.shapes[point.value] for point in points}}
    return replace(graph, nodes=tuple(nodes), shapes=shapes)


def with_grids(graph: Graph, grids: Mapping[str, ActivationGrid]) -> Graph:
    """Return the graph with these grids in the ``quantize`` nodes that are named."""
    return graph.with_nodes(
        replace(node, attributes=asdict(grids[node.name])) if node.name in grids else node for node in graph.nodes
    )


def is_solved(quantizer: Node) -> bool:
    """Tell whether a ``quantize`` node has levels yet."""
    return quantizer.attributes["high"] != quantizer.attributes["low"]


def without_idle_rectifiers(graph: Graph) -> Graph:
    """Return the same function without rectifiers whose every reader is a quantizer that clips as tightly.

    That is one with zero as its least value behind a ReLU, one within the bounds behind a ReLU6. Runtimes fuse the two,
    and the simulation saves a pass.
    """
    consumers = graph.consumers()
    idle = {
        node.outputs[0]: node.inputs[0]
        for node in graph.nodes
        if node.op in ("relu", "clip")
        and node.outputs[0] not in graph.outputs
        and consumers[node.outputs[0]]
        and all(_stays_within(reader, *_bounds(node)) for reader in consumers[node.outputs[0]])
    }
    nodes = [
        replace(node, inputs=tuple(idle.get(value, value) for value in node.inputs))
        for node in graph.nodes
        if node.outputs[0] not in idle
    ]
    shapes = {value: shape for value, shape in graph.shapes.items() if value not in idle}
    return replace(graph, nodes=tuple(nodes), shapes=shapes)


def _bounds(rectifier: Node) -> tuple[float, float]:
    ends = {"min": 0.0, "max": None} if rectifier.op == "relu" else rectifier.attributes
    least, most = ends["min"], ends["max"]
    return (
        float(least) if isinstance(least, int | float) else -inf,
        float(most) if isinstance(most, int | float) else inf,
    )


def _stays_within(node: Node, least: float, most: float) -> bool:
    if node.op != "quantize":
        return False
    low, high, zero_point = (node.attributes[key] for key in ("low", "high", "zero_point"))
    assert isinstance(low, int)
    assert isinstance(high, int)
    assert isinstance(zero_point, int)
    slack = 1 + 1e-6  # a grid solved to end at the bound may miss it by a rounding
    return (low - zero_point) * scale_of(node) >= least * slack and (high - zero_point) * scale_of(node) <= most * slack


def quantizers(graph: Graph) -> dict[str, Node]:
    """Map every value that is on a grid to the quantizer that put it there, also behind what only passes values on."""
    found: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op == "quantize":
            found[node.outputs[0]] = node
        elif node.op in PASSING_OPS and node.inputs[0] in found:
            found.update(dict.fromkeys(node.outputs, found[node.inputs[0]]))
    return found


def scale_of(quantizer: Node) -> float:
    """Return what one step of a quantizer's grid is worth."""
    scale = quantizer.attributes["scale"]
    if not isinstance(scale, float):
        raise TypeError(f"{quantizer.name}: scale must be a number, got {scale!r}")
    return scale


def _stored_operands(graph: Graph, points: tuple[QuantizePoint, ...]) -> tuple[QuantizePoint, ...]:
    """Let concatenations whose result is quantized read those of their operands that are stored anyway from there."""
    of_value: dict[str, list[QuantizePoint]] = defaultdict(list)
    for point in points:
        of_value[point.value].append(point)
    readers = {point: list(point.readers) for point in points}
    for node in graph.nodes:
        behind = of_value[node.outputs[0]] if node.op == "concat" else []
        for index, value in enumerate(node.inputs if len(behind) == 1 else ()):
            wide = [point for point in of_value[value] if point.bits >= behind[0].bits]
            if wide:
                readers[min(wide, key=lambda point: point.bits)].append((node.name, index))
    return tuple(replace(point, readers=tuple(readers[point])) for point in points)


class _Wants:
    """Who reads each value at which width, and whether anybody reads it as it is."""

    def __init__(self, graph: Graph) -> None:
        self._readers: dict[str, dict[int, list[tuple[str, int]]]] = defaultdict(lambda: defaultdict(list))
        self._float: set[str] = set(graph.outputs)
        self._activations = {*graph.inputs, *(value for node in graph.nodes for value in node.outputs)}
        self._graph = graph

    def add(self, value: str, bits: int, reader: tuple[str, int]) -> None:
        if value in self._activations:
            self._readers[value][bits].append(reader)

    def keep_float(self, value: str) -> None:
        self._float.add(value)

    def hoist(self, node: Node) -> bool:
        """Move the one width at which all outputs of ``node`` are read to its input; say whether that was possible."""
        widths = {bits for value in node.outputs for bits in self._readers[value]}
        if len(widths) != 1 or any(value in self._float for value in node.outputs):
            return False
        for value in node.outputs:
            self._readers[value].clear()
        self.add(node.inputs[0], widths.pop(), (node.name, 0))
        return True

    def points(self) -> tuple[QuantizePoint, ...]:
        order = [*self._graph.inputs, *(value for node in self._graph.nodes for value in node.outputs)]
        return tuple(
            QuantizePoint(value=value, bits=bits, readers=tuple(reversed(readers)))
            for value in order
            for bits, readers in sorted(self._readers[value].items())
        )


def _wanted(
    node: Node,
    index: int,
    value: str,
    activation_bits: Mapping[str, int],
    other_bits: int,
    inside: set[str],
    operand_ops: frozenset[str],
) -> int | None:
    if node.name in activation_bits:
        return activation_bits[node.name] if index == 0 and activation_bits[node.name] < FLOAT_BITS else None
    return other_bits if node.op in operand_ops and value in inside else None


def _keeps_zero(node: Node) -> bool:
    """Padding with anything but zero brings in a value that is not on the grid."""
    return node.op != "pad" or node.attributes["mode"] != "constant" or node.attributes["value"] == 0


def end_layers(graph: Graph) -> tuple[str, ...]:
    """Return the layers that no other layer is above, and those that no other one is below."""
    layers = [node for node in graph.nodes if node.op in LAYER_OPS]
    above = {value for layer in layers for value in layer.outputs}
    for node in graph.nodes:
        if above.intersection(node.inputs):
            above.update(node.outputs)
    below = {value for layer in layers for value in layer.inputs}
    for node in reversed(graph.nodes):
        if below.intersection(node.outputs):
            below.update(node.inputs)
    return tuple(
        layer.name for layer in layers if not above.intersection(layer.inputs) or not below.intersection(layer.outputs)
    )


def _values_between(graph: Graph, quantized: Mapping[str, int]) -> set[str]:
    """Return values with a quantized layer above and another below, no float layer in between."""
    above: set[str] = set()
    for node in graph.nodes:
        if node.name in quantized or (node.op not in LAYER_OPS and above.intersection(node.inputs)):
            above.update(node.outputs)
    below: set[str] = set()
    for node in reversed(graph.nodes):
        if node.name in quantized or (node.op not in LAYER_OPS and below.intersection(node.outputs)):
            below.update(node.inputs)
    return above & below
