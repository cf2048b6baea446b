import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.network.build import build_module, run_shapes
from compress.network.check import GraphError, check_graph, check_network
from compress.network.graph import Attribute, Graph, Network
from compress.network.ops import make_node
from hwmodels.errors import InputError


def checked() -> Network:
    window: dict[str, Attribute] = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    nodes = (
        make_node("conv", "conv", ["x"], (), parameters={"weight": "w", "bias": "b"}, **window),
        make_node("act", "clip", ["conv"], min=0.0, max=6.0),
        make_node("cut", "split", ["act"], ["left", "right"], dim=1, parts=2),
        make_node("sum", "add", ["left", "right"]),
        make_node("scaled", "mul", ["sum", "c"]),
        make_node("flat", "flatten", ["scaled"], start_dim=1, end_dim=-1),
        make_node("fc", "linear", ["flat"], parameters={"weight": "f"}),
    )
    shell = Graph(nodes=nodes, inputs=("x",), outputs=("fc",), shapes={"x": (1, 2, 4, 4)})
    tensors = {"w": torch.zeros(6, 2, 3, 3), "b": torch.zeros(6), "c": torch.ones(3, 1, 1), "f": torch.zeros(5, 48)}
    return Network(graph=run_shapes(Network(graph=shell, tensors=tensors)), tensors=tensors)


def as_received() -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Graph as parsed JSON (lists, not tuples), and the tensors' shapes."""
    network = checked()

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return plain(network.graph.to_json()), {name: tuple(t.shape) for name, t in network.tensors.items()}


def test_a_graph_that_holds_comes_back_as_it_was() -> None:
    data, shapes = as_received()

    assert check_graph(data, shapes) == checked().graph


Change = Callable[[dict[str, Any], dict[str, tuple[int, ...]]], object]

CHANGES: dict[str, tuple[str, Change]] = {
    "version": ("schema_version", lambda g, t: g.update(schema_version=2)),
    "unknown field": ("must have the fields", lambda g, t: g.update(extra=1)),
    "no nodes": ("nodes", lambda g, t: g.update(nodes=[])),
    "unknown operator": ("must be one of", lambda g, t: g["nodes"][0].update(op="exec")),
    "operator of another type": ("must be one of", lambda g, t: g["nodes"][0].update(op=["conv"])),
    "name of another type": ("must be a name", lambda g, t: g["nodes"][0].update(name=7)),
    "long name": ("must be a name", lambda g, t: g["nodes"][0].update(name="n" * 2000)),
    "same name twice": ("a name of its own", lambda g, t: g["nodes"][1].update(name="conv")),
    "missing attribute": ("must have the attributes", lambda g, t: g["nodes"][0]["attributes"].pop("stride")),
    "unknown attribute": ("must have the attributes", lambda g, t: g["nodes"][1]["attributes"].update(run=1)),
    "attribute of another type": ("stride", lambda g, t: g["nodes"][0]["attributes"].update(stride="11")),
    "nested attribute": ("stride", lambda g, t: g["nodes"][0]["attributes"].update(stride=[[1], [1]])),
    "attribute out of range": ("stride", lambda g, t: g["nodes"][0]["attributes"].update(stride=[0, 1])),
    "no number": ("min", lambda g, t: g["nodes"][1]["attributes"].update(min=float("nan"))),
    "truth for a number": ("parts", lambda g, t: g["nodes"][2]["attributes"].update(parts=True)),
    "reads the future": ("exist by then", lambda g, t: g["nodes"].reverse()),
    "writes twice": ("do not exist yet", lambda g, t: g["nodes"][3].update(outputs=["left"])),
    "too many outputs": ("1 to 1 outputs", lambda g, t: g["nodes"][0].update(outputs=["conv", "more"])),
    "too few inputs": ("2 to 2 inputs", lambda g, t: g["nodes"][3].update(inputs=["left"])),
    "unknown output": ("must be values of the graph", lambda g, t: g.update(outputs=["nothing"])),
    "missing parameter": ("must have the parameters", lambda g, t: g["nodes"][0]["parameters"].pop("weight")),
    "unknown role": ("must have the parameters", lambda g, t: g["nodes"][0]["parameters"].update(hook="b")),
    "parameter that did not come": ("came along", lambda g, t: g["nodes"][0]["parameters"].update(bias="lost")),
    "parameter from an activation": ("came along", lambda g, t: g["nodes"][6]["parameters"].update(weight="act")),
    "rank": ("rank", lambda g, t: t.update(f=(5, 48, 1))),
    "length of a bias": ("must have shape [6]", lambda g, t: t.update(b=(7,))),
    "channels": ("takes 3 channels", lambda g, t: t.update(w=(6, 3, 3, 3))),
    "unused tensor": ("must be named by a node", lambda g, t: t.update(spare=(1,))),
    "tensor with a value's name": ("must write values that do not exist yet", lambda g, t: t.update(act=(1,))),
    "input with a tensor's name": ("name of a tensor", lambda g, t: t.update(x=(1,))),
    "size of tensors": ("at most", lambda g, t: t.update(w=(6, 2, 2**20, 2**20))),
    "stated shape": ("must be what the operators give", lambda g, t: g["shapes"].update(fc=[1, 6])),
    "shape of another type": ("positive integers", lambda g, t: g["shapes"].update(x=[1, 2, 4, 4.0])),
    "input without a shape": ("must have every input", lambda g, t: g["shapes"].pop("x")),
    "huge activations": ("too large", lambda g, t: g["shapes"].update(x=[1, 2, 2**20, 2**20])),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_does_not_hold_is_refused_with_the_rule(case: str) -> None:
    rule, change = CHANGES[case]
    data, shapes = as_received()
    change(data, shapes)

    with pytest.raises(InputError) as caught:
        check_graph(data, shapes)

    assert rule in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "graph", 3, {}, {"schema_version": 1}])
def test_what_is_no_graph_at_all_is_refused(data: object) -> None:
    with pytest.raises(GraphError):
        check_graph(data, {})


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


@settings(max_examples=300, deadline=None)
@given(choice=st.integers(0, 10_000), replacement=ANYTHING)
def test_a_graph_with_anything_in_any_place_is_refused_or_runs(choice: int, replacement: object) -> None:
    data, shapes = as_received()
    where = places(data)
    *path, last = where[1 + choice % (len(where) - 1)]
    target: Any = data
    for key in path:
        target = target[key]
    target[last] = copy.deepcopy(replacement)

    try:
        graph = check_graph(data, shapes)
    except InputError:
        return

    image = torch.zeros(graph.shapes[graph.inputs[0]])
    output = build_module(Network(graph=graph, tensors=checked().tensors))(image)
    assert isinstance(output, torch.Tensor)


def test_weights_must_be_finite_float32() -> None:
    network = checked()
    half = {**network.tensors, "w": network.tensors["w"].half()}
    broken = {**network.tensors, "b": torch.full((6,), torch.inf)}

    with pytest.raises(GraphError, match="float32"):
        check_network(Network(graph=network.graph, tensors=half))
    with pytest.raises(GraphError, match="finite"):
        check_network(Network(graph=network.graph, tensors=broken))
    check_network(network)
    check_network(network.to_meta())
