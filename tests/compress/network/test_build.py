import torch
from torch import nn

from compress.network.build import build_module, propagate_shapes, run_shapes, unique_identifiers
from compress.network.graph import Graph, Network
from compress.network.ops import make_node


def two_layer_network() -> Network:
    """``y = W(Wx + c)``: two layers share a weight, a constant enters between them."""
    roles = {"weight": "w"}
    nodes = (
        make_node("/fc/MatMul", "linear", ["x"], ["a"], parameters=roles),
        make_node("shift", "add", ["a", "c"], ["b"]),
        make_node("fc.MatMul", "linear", ["b"], ["y"], parameters=roles),
    )
    shell = Graph(nodes=nodes, inputs=("x",), outputs=("y",), shapes={"x": (1, 2)})
    tensors = {"w": torch.tensor([[0.0, 1.0], [2.0, 0.0]]), "c": torch.tensor([1.0, 0.0])}
    return Network(graph=run_shapes(Network(graph=shell, tensors=tensors)), tensors=tensors)


def test_a_built_module_computes_the_network_at_any_batch_size() -> None:
    module = build_module(two_layer_network())

    y = module(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))

    # W(3, 4) = (4, 6), plus (1, 0) = (5, 6), W(5, 6) = (6, 10); W(1, 0) = (0, 2)
    assert y.tolist() == [[6.0, 10.0], [0.0, 2.0]]


def test_layers_are_plain_modules_under_the_paths_that_meta_names() -> None:
    module = build_module(two_layer_network())

    assert set(module.meta["layers"]) == {"/fc/MatMul", "fc.MatMul"}
    first, second = (module.get_submodule(path) for path in module.meta["layers"].values())
    assert type(first) is nn.Linear
    assert first is not second


def test_tensors_are_shared_with_the_network_and_between_layers() -> None:
    network = two_layer_network()
    module = build_module(network)

    first, second = (module.get_submodule(path) for path in module.meta["layers"].values())

    assert first.weight is second.weight
    assert isinstance(first.weight, nn.Parameter)
    assert first.weight.data_ptr() == network.tensors["w"].data_ptr()


def test_fx_nodes_carry_the_nodes_that_they_compute() -> None:
    network = two_layer_network()

    carried = [node.meta["node"] for node in build_module(network).graph.nodes if "node" in node.meta]

    assert carried == list(network.graph.nodes)


def test_pieces_of_a_split_can_be_read_one_by_one() -> None:
    nodes = (
        make_node("cut", "split", ["x"], ["left", "right"], dim=1, parts=2),
        make_node("swap", "concat", ["right", "left"], ["y"], dim=1),
    )
    graph = Graph(nodes=nodes, inputs=("x",), outputs=("y",), shapes={"x": (1, 4)})

    y = build_module(Network(graph=graph, tensors={}))(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))

    assert y.tolist() == [[3.0, 4.0, 1.0, 2.0]]


def test_shapes_follow_the_batch_that_is_asked_for() -> None:
    network = two_layer_network()

    shapes = propagate_shapes(network.graph, {"w": (2, 2), "c": (2,)}, batch=5)

    assert shapes == {"x": (5, 2), "a": (5, 2), "b": (5, 2), "y": (5, 2)}


def test_identifiers_are_unique_and_no_names_of_modules_own_parts() -> None:
    identifiers = unique_identifiers(["/a/Conv", "a.conv", "1x", "forward", "é", ""])

    assert list(identifiers.values()) == ["a_conv", "a_conv_2", "n_1x", "n_forward", "node", "node_2"]
