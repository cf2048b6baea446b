"""The receiver's check of a network that somebody else wrote down, before anything is built from it.

A graph arrives as JSON and its tensors as a safetensors header. What passes here consists of known operators with
bounded attributes, defines every value once and before it is read, and has shapes that fit together: building and
running it can then only take the time and memory that its shapes say.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from compress.network.build import propagate_shapes
from compress.network.graph import SCHEMA_VERSION, Graph, Network, Node
from compress.network.ops import OPS
from compress.network.ops.spec import Op, Shape
from hwmodels.errors import InputError

MAX_NODES = 20_000
MAX_NAME = 1024  # characters
MAX_VALUES = 1 << 31  # of all tensors together
MAX_ACTIVATIONS = 1 << 34  # values of one image, all of the graph's together


class GraphError(InputError):
    """A graph breaks a rule; the field says where."""

    code = "invalid_graph"


def check_graph(data: object, tensors: Mapping[str, Shape]) -> Graph:
    """Return the graph that ``data`` (parsed JSON) describes, once it holds against the list of operators.

    Args:
        data: What ``Graph.to_json`` writes. Nobody vouches for it.
        tensors: Shapes of the tensors that came with it.

    Raises:
        GraphError: A rule is broken.
        ShapeError: Shapes do not fit together.
    """
    _check_structure(data)
    assert isinstance(data, dict)
    graph = Graph.from_json(data)
    _check_tensors(tensors)
    _check_values(graph, tensors)
    for node in graph.nodes:
        _check_node(node, tensors)
    unused = sorted(set(tensors).difference(*((*node.inputs, *node.parameters.values()) for node in graph.nodes)))
    _require(not unused, "tensors", "must be named by a node", unused[:1])
    _check_shapes(graph, tensors)
    return graph


def check_network(network: Network) -> None:
    """Check a network that was built here: its graph, and that weights are finite float32 numbers.

    Raises:
        InputError: A rule is broken.
    """
    check_graph(network.graph.to_json(), {name: tuple(tensor.shape) for name, tensor in network.tensors.items()})
    check_parameters(network)


def check_parameters(network: Network) -> None:
    """Check that the parameters of all nodes are finite float32 numbers; on the ``meta`` device only that type.

    Raises:
        GraphError: One is not.
    """
    used = {name for node in network.graph.nodes for name in node.parameters.values()}
    for name in sorted(used):
        tensor = network.tensors[name]
        if tensor.dtype != torch.float32:
            raise GraphError(f"tensor {name!r}", "must be float32", str(tensor.dtype))
        if tensor.device.type != "meta" and not bool(torch.isfinite(tensor).all()):
            raise GraphError(f"tensor {name!r}", "must hold finite numbers only")


def _check_structure(data: object) -> None:
    """Types and counts only: what ``Graph.from_json`` takes for granted."""
    graph = _mapping(data, "graph", ("schema_version", "nodes", "inputs", "outputs", "shapes"))
    _require(graph["schema_version"] == SCHEMA_VERSION, "schema_version", f"must be {SCHEMA_VERSION}")
    _names(graph["inputs"], "inputs", least=1)
    _names(graph["outputs"], "outputs", least=1)
    shapes = graph["shapes"]
    _require(isinstance(shapes, dict) and len(shapes) <= 4 * MAX_NODES, "shapes", "must be an object of bounded size")
    for name, shape in shapes.items():
        _check_shape(shape, f"shapes.{_shown(name)}")
    nodes = graph["nodes"]
    fits = isinstance(nodes, list | tuple) and 1 <= len(nodes) <= MAX_NODES
    _require(fits, "nodes", f"must be a list of 1 to {MAX_NODES} nodes")
    for index, row in enumerate(nodes):
        field = f"nodes[{index}]"
        node = _mapping(row, field, ("name", "op", "inputs", "outputs", "attributes", "parameters"))
        _name(node["name"], f"{field}.name")
        known = isinstance(node["op"], str) and node["op"] in OPS
        _require(known, f"{field}.op", f"must be one of {', '.join(sorted(OPS))}", node["op"])
        _names(node["inputs"], f"{field}.inputs", least=1)
        _names(node["outputs"], f"{field}.outputs", least=1)
        for part in ("attributes", "parameters"):
            _require(isinstance(node[part], dict) and len(node[part]) <= 16, f"{field}.{part}", "must be an object")
        for role, name in node["parameters"].items():
            _name(name, f"{field}.parameters.{_shown(role)}")


def _mapping(data: object, field: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
    _require(isinstance(data, dict), field, "must be an object", type(data).__name__)
    assert isinstance(data, dict)
    _require(set(data) == set(keys), field, f"must have the fields {', '.join(keys)}", sorted(map(_shown, data)))
    return data


def _names(names: object, field: str, *, least: int) -> None:
    fits = isinstance(names, list | tuple) and least <= len(names) <= 1024
    _require(fits, field, f"must be a list of {least} to 1024 names")
    assert isinstance(names, list | tuple)
    for name in names:
        _name(name, field)


def _name(name: object, field: str) -> None:
    fits = isinstance(name, str) and 0 < len(name) <= MAX_NAME
    _require(fits, field, f"must be a name of 1 to {MAX_NAME} characters", name)


def _check_shape(shape: object, field: str) -> None:
    fits = isinstance(shape, list | tuple) and 1 <= len(shape) <= 8
    fits = fits and all(type(size) is int and 1 <= size < 2**31 for size in shape)  # type: ignore[attr-defined]
    _require(fits, field, "must be 1 to 8 positive integers", shape)


def _check_tensors(tensors: Mapping[str, Shape]) -> None:
    for name, shape in tensors.items():
        _require(len(shape) <= 8 and all(size >= 0 for size in shape), f"tensor {name!r}", "must have a plain shape")
    total = sum(math.prod(shape) for shape in tensors.values())
    _require(total <= MAX_VALUES, "tensors", f"must have at most {MAX_VALUES} values together", total)


def _check_values(graph: Graph, tensors: Mapping[str, Shape]) -> None:
    """Every value is written once and before it is read; no value has a tensor's name."""
    written = set(graph.inputs)
    _require(len(written) == len(graph.inputs), "inputs", "must differ from each other")
    nodes: set[str] = set()
    for node in graph.nodes:
        field = f"node {_shown(node.name)!r}"
        _require(node.name not in nodes, field, "must have a name of its own")
        nodes.add(node.name)
        for name in node.inputs:
            _require(name in written or name in tensors, field, "must read values that exist by then", name)
        for name in node.outputs:
            _require(
                name not in written and name not in tensors, field, "must write values that do not exist yet", name
            )
            written.add(name)
    for name in graph.outputs:
        _require(name in written, "outputs", "must be values of the graph", name)
    _require(not written & set(tensors), "inputs", "must not have the name of a tensor")


def _check_node(node: Node, tensors: Mapping[str, Shape]) -> None:
    op: Op = OPS[node.op]
    field = f"node {_shown(node.name)!r} ({node.op})"
    (least_in, most_in), (least_out, most_out) = op.inputs, op.outputs
    _require(least_in <= len(node.inputs) <= most_in, field, f"must have {least_in} to {most_in} inputs")
    _require(least_out <= len(node.outputs) <= most_out, field, f"must have {least_out} to {most_out} outputs")
    _require(set(node.attributes) == set(op.attributes), field, f"must have the attributes {sorted(op.attributes)}")
    for key, rule in op.attributes.items():
        broken = rule.broken_by(node.attributes[key])
        _require(broken is None, f"{field} {key}", str(broken), node.attributes[key])
    required = {role for role, rule in op.parameters.items() if rule.required}
    given = set(node.parameters)
    _require(required <= given <= set(op.parameters), field, f"must have the parameters {sorted(op.parameters)}")
    for role, name in node.parameters.items():
        _require(name in tensors, f"{field} {role}", "must be a tensor that came along", name)
        ranks = op.parameters[role].ranks
        _require(len(tensors[name]) in ranks, f"{field} {role}", f"must have a rank of {list(ranks)}", tensors[name])
    _check_parameter_sizes(node, op, tensors, field)


def _check_parameter_sizes(node: Node, op: Op, tensors: Mapping[str, Shape], field: str) -> None:
    """A layer's bias is as long as its output; the vectors of a normalisation are as long as its weight."""
    if "weight" not in node.parameters:
        return
    weight = tensors[node.parameters["weight"]]
    _require(min(weight) >= 1, f"{field} weight", "must not be empty", weight)
    if node.op == "conv_transpose":
        expected: Shape = (weight[1] * int(node.attributes["groups"]),)  # type: ignore[arg-type]
    else:
        expected = weight[:1] if op.weighted else weight
    for role, name in node.parameters.items():
        if role != "weight":
            _require(tensors[name] == expected, f"{field} {role}", f"must have shape {list(expected)}", tensors[name])


def _check_shapes(graph: Graph, tensors: Mapping[str, Shape]) -> None:
    missing = sorted(set(graph.inputs) - set(graph.shapes))
    _require(not missing, "shapes", "must have every input", missing[:1])
    found = propagate_shapes(graph, tensors)
    _require(found == dict(graph.shapes), "shapes", "must be what the operators give", _difference(found, graph.shapes))
    total = sum(math.prod(shape) for shape in found.values())
    _require(total <= MAX_ACTIVATIONS, "shapes", f"must have at most {MAX_ACTIVATIONS} values together", total)


def _difference(found: Mapping[str, Shape], stated: Mapping[str, Shape]) -> str:
    for name in {**found, **stated}:
        if found.get(name) != stated.get(name):
            return f"{_shown(name)}: {stated.get(name)} for {found.get(name)}"
    return ""


def _shown(name: object) -> str:
    text = str(name)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _require(condition: bool, field: str, rule: str, value: object = None) -> None:
    if not condition:
        raise GraphError(field, rule, value)
