"""Normalisations and linear layers that exporters write as several nodes."""

from torch import Tensor

from compress.network.graph import Node
from compress.network.onnx_import.matching import Match, View, matched
from compress.network.ops import make_node


def layer_norm(node: Node, view: View) -> Match | None:
    """``(x - mean) / sqrt(mean((x - mean) ** 2) + eps) * weight + bias`` over the last dimension."""
    if node.op != "add":
        return None
    for value, bias_name in (node.inputs, node.inputs[::-1]):
        scaled = view.inner(value, "mul")
        bias = view.tensor(bias_name)
        if scaled is None or bias is None:
            continue
        for quotient, weight_name in (scaled.inputs, scaled.inputs[::-1]):
            weight = view.tensor(weight_name)
            normalised = _normalised(quotient, view)
            if weight is None or normalised is None:
                continue
            x, eps, inside = normalised
            if tuple(weight.shape) == tuple(bias.shape) == view.shape(x)[-1:]:
                roles = {"weight": weight_name, "bias": bias_name}
                made = make_node(node.name, "layer_norm", [x], node.outputs, parameters=roles, eps=eps)
                return matched(made, node, scaled, *inside)
    return None


def _normalised(value: str, view: View) -> tuple[str, float, list[Node]] | None:
    """Return what is normalised over its last dimension, with which epsilon, and the nodes that do it."""
    quotient = view.inner(value, "div")
    root = view.inner(quotient.inputs[1], "sqrt") if quotient is not None else None
    raised = view.inner(root.inputs[0], "add") if root is not None else None
    variance = view.with_scalar(raised)
    spread = view.inner(variance[0], "mean") if variance is not None else None
    square = view.inner(spread.inputs[0], "pow") if spread is not None else None
    if quotient is None or variance is None or spread is None or square is None or view.scalar(square.inputs[1]) != 2:
        return None
    upper, lower = view.made_by(quotient.inputs[0], "sub"), view.made_by(square.inputs[0], "sub")
    if upper is None or lower is None or upper.inputs != lower.inputs:
        return None
    average = view.made_by(upper.inputs[1], "mean")
    if average is None or average.inputs[0] != upper.inputs[0]:
        return None
    last = len(view.shape(average.inputs[0])) - 1
    if any(mean.attributes != {"dims": (last,), "keepdim": True} for mean in (average, spread)):
        return None
    inside = [quotient, root, raised, spread, square, upper, lower, average]
    names = {node.name for node in inside if node is not None}
    private = all(view.readers(node.outputs[0]) <= names for node in (upper, lower, average))
    return (upper.inputs[0], variance[1], [n for n in inside if n is not None]) if private else None


def group_norm(node: Node, view: View) -> Match | None:
    """Reshape to groups, instance norm without effect of its own, reshape back, scale and shift per channel."""
    if node.op != "add":
        return None
    scaled, bias = _with_channel_vector(node, view)
    restored, weight = _with_channel_vector(view.inner(scaled, "mul") if scaled else None, view)
    back = view.inner(restored, "reshape", "flatten") if restored else None
    normal = view.inner(back.inputs[0], "instance_norm") if back is not None else None
    apart = view.inner(normal.inputs[0], "reshape", "flatten") if normal is not None else None
    if scaled is None or back is None or normal is None or apart is None or weight is None or bias is None:
        return None
    x = apart.inputs[0]
    grouped = view.shape(apart.outputs[0])
    ones, zeros = (view.network.tensors[normal.parameters[role]] for role in ("weight", "bias"))
    plain = bool((ones == 1).all()) and bool((zeros == 0).all())
    if not plain or view.shape(x) != view.shape(node.outputs[0]) or len(grouped) != 3:
        return None
    roles = {"weight": f"{node.name}/weight", "bias": f"{node.name}/bias"}
    tensors = {roles["weight"]: weight, roles["bias"]: bias}
    if set(tensors) & set(view.network.tensors) or grouped[0] != view.shape(x)[0]:
        return None
    groups, eps = grouped[1], normal.attributes["eps"]
    made = make_node(node.name, "group_norm", [x], node.outputs, parameters=roles, groups=groups, eps=eps)
    return matched(made, node, view.made_by(scaled, "mul"), back, normal, apart, tensors=tensors)


def _with_channel_vector(node: Node | None, view: View) -> tuple[str | None, Tensor | None]:
    """Return the operand of ``node`` that is a value, and the other, a constant with one number per channel."""
    if node is None:
        return None, None
    for value, other in (node.inputs, node.inputs[::-1]):
        tensor = view.tensor(other)
        if tensor is None or view.tensor(value) is not None:
            continue
        shape = view.shape(value)
        aligned = (1,) * (len(shape) - tensor.ndim) + tuple(tensor.shape)
        if len(shape) >= 3 and aligned == (1, shape[1], *(1,) * (len(shape) - 2)):
            return value, tensor.reshape(-1).clone()
    return None, None


def biased_linear(node: Node, view: View) -> Match | None:
    """A product with a constant matrix, and a constant vector added to it."""
    if node.op != "add":
        return None
    for value, other in (node.inputs, node.inputs[::-1]):
        layer, bias = view.inner(value, "linear"), view.tensor(other)
        if layer is None or bias is None or "bias" in layer.parameters:
            continue
        features = view.shape(value)[-1]
        if bias.numel() != features or tuple(bias.shape[-1:]) != (features,):
            continue
        name = other if bias.ndim == 1 else f"{layer.name}/bias"
        tensors: dict[str, Tensor] = {} if bias.ndim == 1 else {name: bias.reshape(-1).clone()}
        if bias.ndim != 1 and (bias.ndim > len(view.shape(value)) or name in view.network.tensors):
            continue
        parameters = {**layer.parameters, "bias": name}
        made = make_node(layer.name, "linear", layer.inputs, node.outputs, parameters=parameters)
        return matched(made, node, layer, tensors=tensors)
    return None
