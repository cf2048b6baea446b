"""Activation functions that exporters write as several nodes."""

import math

from compress.network.graph import Node
from compress.network.onnx_import.matching import Match, View, close, matched
from compress.network.ops import make_node


def hard_sigmoid(node: Node, view: View) -> Match | None:
    """``clip(x + 3, 0, 6) / 6``."""
    scaled = view.with_scalar(node) if node.op in ("div", "mul") else None
    if scaled is None or not close(scaled[1] if node.op == "div" else 1 / (scaled[1] or 1), 6):
        return None
    bounded = view.inner(scaled[0], "clip")
    if bounded is None or (bounded.attributes["min"], bounded.attributes["max"]) != (0.0, 6.0):
        return None
    shifted = view.inner(bounded.inputs[0], "add")
    found = view.with_scalar(shifted)
    if found is None or not close(found[1], 3):
        return None
    return matched(make_node(node.name, "hard_sigmoid", [found[0]], node.outputs), node, bounded, shifted)


def hard_swish(node: Node, view: View) -> Match | None:
    """``x * hard_sigmoid(x)`` with torch's slope and offset."""
    gate = _gate(node, view, "hard_sigmoid")
    if gate is None:
        return None
    slope, offset = gate.attributes["slope"], gate.attributes["offset"]
    assert isinstance(slope, float)
    assert isinstance(offset, float)
    if not (close(slope, 1 / 6) and close(offset, 0.5)):
        return None
    return matched(make_node(node.name, "hard_swish", gate.inputs, node.outputs), node, gate)


def silu(node: Node, view: View) -> Match | None:
    """``x * sigmoid(x)``."""
    gate = _gate(node, view, "sigmoid")
    if gate is None:
        return None
    return matched(make_node(node.name, "silu", gate.inputs, node.outputs), node, gate)


def _gate(node: Node, view: View, op: str) -> Node | None:
    """Return the ``op`` whose input the multiplication ``node`` multiplies its output with."""
    if node.op == "mul":
        for value, other in (node.inputs, node.inputs[::-1]):
            gate = view.inner(other, op)
            if gate is not None and gate.inputs == (value,):
                return gate
    return None


def gelu(node: Node, view: View) -> Match | None:
    """``x * (erf(x / sqrt(2)) + 1) * 0.5``, in any order."""
    if node.op != "mul":
        return None
    factors, number, swallowed = list(node.inputs), 1.0, [node]
    for value in node.inputs:
        inner = view.inner(value, "mul")
        if inner is not None and len(swallowed) == 1:
            factors.remove(value)
            factors.extend(inner.inputs)
            swallowed.append(inner)
    for value in list(factors):
        constant = view.scalar(value)
        if constant is not None:
            factors.remove(value)
            number *= constant
    if len(factors) != 2 or not close(number, 0.5):
        return None
    for x, other in (factors, factors[::-1]):
        raised = view.inner(other, "add")
        shifted = view.with_scalar(raised)
        curve = view.inner(shifted[0], "erf") if shifted is not None and close(shifted[1], 1) else None
        inside = view.inner(curve.inputs[0], "div", "mul") if curve is not None else None
        scaled = view.with_scalar(inside)
        if inside is None or scaled is None or scaled[0] != x:
            continue
        if close(scaled[1], math.sqrt(2) if inside.op == "div" else math.sqrt(0.5)):
            made = make_node(node.name, "gelu", [x], node.outputs)
            return matched(made, *swallowed, raised, curve, inside)
    return None
