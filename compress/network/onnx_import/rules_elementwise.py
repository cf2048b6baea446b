"""Operators that treat every value by itself, or pairs of values."""

from collections.abc import Callable

import torch

from compress.network.onnx_import.rules import RULES, translates
from compress.network.onnx_import.translation import Source, Translation

_UNARY = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Erf": "erf",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Abs": "abs",
    "Neg": "neg",
    "Reciprocal": "reciprocal",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Cos": "cos",
    "HardSwish": "hard_swish",
    "Mish": "mish",
    "Softplus": "softplus",
    "Softsign": "softsign",
}
_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow"}
_CHAINED = {"Max": "maximum", "Min": "minimum", "Sum": "add"}


def _unary(op: str) -> Callable[[Source, Translation], None]:
    def rule(source: Source, graph: Translation) -> None:
        graph.emit(source.name, op, [source.inputs[0]], source.outputs)

    return rule


def _binary(op: str) -> Callable[[Source, Translation], None]:
    def rule(source: Source, graph: Translation) -> None:
        source.require(len(source.inputs) == 2, "must have two inputs", len(source.inputs))
        graph.emit(source.name, op, source.inputs, source.outputs)

    return rule


def _chained(op: str) -> Callable[[Source, Translation], None]:
    def rule(source: Source, graph: Translation) -> None:
        value, *others = source.inputs
        if not others:
            graph.alias(source.outputs[0], value)
        for index, other in enumerate(others, start=1):
            last = index == len(others)
            name = source.name if last else graph.node_name(f"{source.name}/{index}")
            value = graph.emit(name, op, [value, other], source.outputs if last else "")

    return rule


RULES.update({name: _unary(op) for name, op in _UNARY.items()})
RULES.update({name: _binary(op) for name, op in _BINARY.items()})
RULES.update({name: _chained(op) for name, op in _CHAINED.items()})


@translates("Identity", "Dropout")
def identity(source: Source, graph: Translation) -> None:
    """The same value under another name."""
    graph.alias(source.outputs[0], source.inputs[0])


@translates("Cast")
def cast(source: Source, graph: Translation) -> None:
    """Only to what the value already is: the rest was folded, or is no float network."""
    to = source.integer("to", 0)
    x = source.inputs[0]
    if graph.is_constant(x):
        kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool}
        source.require(to in kinds, "must cast to float32, integer or boolean", to)
        graph.constants[source.outputs[0]] = graph.constants[x].to(kinds[to])
        return
    source.require(to == 1, "must keep activations in float32", to)
    graph.alias(source.outputs[0], x)


@translates("Clip")
def clip(source: Source, graph: Translation) -> None:
    """Bounds are attributes before operator set 11, inputs since."""
    bounds = []
    for index, name in enumerate(("min", "max"), start=1):
        bound = source.node.attributes.get_float(name)
        if bound is None and source.has(index):
            tensor = graph.constant(source, index, name)
            source.require(tensor.numel() == 1, f"must have one {name} for all values")
            bound = float(tensor)
        finite = bound is not None and abs(bound) < float("inf")
        bounds.append(float(bound) if finite and bound is not None else None)
    graph.emit(source.name, "clip", [source.inputs[0]], source.outputs, min=bounds[0], max=bounds[1])


@translates("HardSigmoid")
def hard_sigmoid(source: Source, graph: Translation) -> None:
    """ONNX's defaults differ from torch's."""
    slope, offset = source.number("alpha", 0.2), source.number("beta", 0.5)
    graph.emit(source.name, "hard_sigmoid", [source.inputs[0]], source.outputs, slope=slope, offset=offset)


@translates("LeakyRelu")
def leaky_relu(source: Source, graph: Translation) -> None:
    """Slope below zero."""
    graph.emit(source.name, "leaky_relu", [source.inputs[0]], source.outputs, slope=source.number("alpha", 0.01))


@translates("Elu")
def elu(source: Source, graph: Translation) -> None:
    """Scale below zero."""
    graph.emit(source.name, "elu", [source.inputs[0]], source.outputs, alpha=source.number("alpha", 1.0))


@translates("Celu")
def celu(source: Source, graph: Translation) -> None:
    """With an alpha of one it is ELU."""
    source.require(source.number("alpha", 1.0) == 1.0, "must have an alpha of 1", source.number("alpha", 1.0))
    graph.emit(source.name, "elu", [source.inputs[0]], source.outputs, alpha=1.0)


@translates("Greater")
def greater(source: Source, graph: Translation) -> None:
    """Nothing yet: only what chooses by it (``Where``) shows whether it is known."""
    x, bound = source.inputs
    source.require(not graph.is_constant(x) and graph.is_constant(bound), "must compare with a constant")
    graph.thresholds[source.outputs[0]] = (x, float(graph.constant(source, 1, "bound").max()))


@translates("Where")
def where(source: Source, graph: Translation) -> None:
    """Softplus as torch has it, which is the identity above 20: there, both are the same to float32."""
    choice, above, below = source.inputs
    x, bound = graph.thresholds.get(choice, ("", 0.0))
    producer = next((node for node in reversed(graph.nodes) if below in node.outputs), None)
    known = producer is not None and producer.op == "softplus" and producer.inputs == (x,) == (above,)
    source.require(known and bound >= 20.0, "must be a softplus")
    graph.alias(source.outputs[0], below)


@translates("Selu")
def selu(source: Source, graph: Translation) -> None:
    """Only with the constants of Klambauer et al. 2017, arXiv:1706.02515."""
    alpha, gamma = source.number("alpha", 1.67326), source.number("gamma", 1.0507)
    usual = abs(alpha - 1.67326) < 1e-3 and abs(gamma - 1.0507) < 1e-3
    source.require(usual, "must have the usual alpha and gamma", [alpha, gamma])
    graph.emit(source.name, "selu", [source.inputs[0]], source.outputs)


@translates("Gelu")
def gelu(source: Source, graph: Translation) -> None:
    """Exact, or by tanh."""
    approximate = source.text("approximate", "none")
    source.require(approximate in ("none", "tanh"), "must be exact or by tanh", approximate)
    graph.emit(source.name, "gelu", [source.inputs[0]], source.outputs, approximate=approximate)


@translates("Swish")
def swish(source: Source, graph: Translation) -> None:
    """Only with a factor of one, which torch calls SiLU."""
    source.require(source.number("alpha", 1.0) == 1.0, "must have an alpha of 1")
    graph.emit(source.name, "silu", [source.inputs[0]], source.outputs)


@translates("PRelu")
def prelu(source: Source, graph: Translation) -> None:
    """One slope for all values, or one per channel."""
    slope = graph.constant(source, 1, "slope")
    shape = graph.shape(source.inputs[0])
    per_channel = len(shape) >= 2 and slope.numel() == shape[1]
    if slope.numel() > 1:
        aligned = (1,) * (len(shape) - slope.ndim) + tuple(slope.shape)
        wanted = (1, shape[1], *(1,) * (len(shape) - 2)) if per_channel else ()
        source.require(aligned == wanted, "must have one slope, or one per channel", list(slope.shape))
    name = graph.add_constant(f"{source.name}/slope", slope.reshape(-1).clone())
    graph.emit(source.name, "prelu", [source.inputs[0]], source.outputs, parameters={"weight": name})
