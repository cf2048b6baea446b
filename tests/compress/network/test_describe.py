from typing import Any

import torch

from compress.network.build import run_shapes
from compress.network.describe import layers, macs, parameter_count
from compress.network.graph import Graph, Network
from compress.network.ops import make_node


def described() -> Network:
    window: dict[str, Any] = {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 2}
    roles = {"weight": "w", "bias": "b"}
    nodes = (
        make_node("conv", "conv", ["x"], parameters=roles, **window),
        make_node("pool", "global_avg_pool", ["conv"]),
        make_node("flat", "flatten", ["pool"], start_dim=1, end_dim=-1),
        make_node("head", "linear", ["flat"], parameters={"weight": "h"}),
        make_node("up", "unsqueeze", ["head"], dim=1),
        make_node("down", "unsqueeze", ["head"], dim=2),
        make_node("outer", "matmul", ["down", "up"]),
    )
    shell = Graph(nodes=nodes, inputs=("x",), outputs=("outer",), shapes={"x": (1, 4, 8, 8)})
    tensors = {"w": torch.zeros(6, 2, 3, 3), "b": torch.zeros(6), "h": torch.zeros(5, 6)}
    return Network(graph=run_shapes(Network(graph=shell, tensors=tensors)), tensors=tensors)


def test_layers_are_the_operators_with_weights_and_their_macs_count_once() -> None:
    conv, head = layers(described())

    assert (conv.name, conv.op, conv.weight_shape, conv.output_shape) == ("conv", "conv", (6, 2, 3, 3), (6, 4, 4))
    assert conv.parameters == 6 * 2 * 3 * 3 + 6
    assert conv.macs == 6 * 4 * 4 * 2 * 3 * 3
    assert (head.name, head.parameters, head.macs) == ("head", 30, 30)


def test_products_of_activations_count_in_the_total() -> None:
    # (1, 5, 1) x (1, 1, 5): 25 outputs, one product each
    assert macs(described()) == 6 * 4 * 4 * 2 * 9 + 30 + 25


def test_macs_of_a_transposed_convolution_are_its_inputs_times_its_taps() -> None:
    window: dict[str, Any] = {"stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "output_padding": (0, 0)}
    node = make_node("up", "conv_transpose", ["x"], parameters={"weight": "w"}, **window)
    shell = Graph(nodes=(node,), inputs=("x",), outputs=("up",), shapes={"x": (1, 3, 4, 4)})
    network = Network(graph=shell, tensors={"w": torch.zeros(3, 5, 2, 2)})
    network = Network(graph=run_shapes(network), tensors=network.tensors)

    assert macs(network) == 3 * 4 * 4 * 5 * 2 * 2


def test_shared_tensors_and_statistics_are_counted_as_training_would() -> None:
    statistics = {role: role for role in ("weight", "bias", "running_mean", "running_var")}
    nodes = (
        make_node("one", "linear", ["x"], parameters={"weight": "w"}),
        make_node("two", "linear", ["one"], parameters={"weight": "w"}),
        make_node("norm", "batch_norm", ["two"], parameters=statistics),
        make_node("shift", "add", ["norm", "c"]),
    )
    shell = Graph(nodes=nodes, inputs=("x",), outputs=("shift",), shapes={"x": (1, 3)})
    tensors = {"w": torch.zeros(3, 3), "c": torch.zeros(3), **{role: torch.zeros(3) for role in statistics}}
    network = Network(graph=shell, tensors=tensors)

    assert parameter_count(network) == 9 + 3 + 3 + 3
