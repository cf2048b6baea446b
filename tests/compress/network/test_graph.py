import json

import torch

from compress.network.graph import Graph, Network, image_shape
from compress.network.ops import make_node


def test_a_graph_comes_back_from_its_json() -> None:
    nodes = (make_node("a", "clip", ["x"], min=0.0, max=None), make_node("y", "pad", ["a"], padding=(1, 2)))
    graph = Graph(nodes=nodes, inputs=("x",), outputs=("y",), shapes={"x": (1, 4), "a": (1, 4), "y": (1, 7)})

    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph


def test_readers_are_listed_in_execution_order_and_outputs_may_have_none() -> None:
    nodes = (make_node("a", "relu", ["x"]), make_node("b", "add", ["a", "a"]), make_node("y", "add", ["b", "a"]))
    graph = Graph(nodes=nodes, inputs=("x",), outputs=("y",), shapes={"x": (1, 4)})

    assert {value: [node.name for node in readers] for value, readers in graph.consumers().items()} == {
        "x": ["a"],
        "a": ["b", "b", "y"],
        "b": ["y"],
        "y": [],
    }
    assert graph.producer()["b"] is graph.node("b")


def test_the_batch_is_left_out_where_it_stands_first_and_counts_as_one_elsewhere() -> None:
    assert image_shape((1, 8, 4, 4)) == (8, 4, 4)
    assert image_shape((12, 197, 64)) == (12, 197, 64)  # heads times a batch of one
    assert image_shape((197, 1, 768)) == (197, 1, 768)


def test_tensors_that_no_node_names_are_dropped() -> None:
    nodes = (make_node("y", "mul", ["x", "c"]),)
    graph = Graph(nodes=nodes, inputs=("x",), outputs=("y",), shapes={"x": (1, 4), "y": (1, 4)})
    network = Network(graph=graph, tensors={"c": torch.ones(4), "spare": torch.ones(1)})

    assert set(network.used().tensors) == {"c"}
    assert network.to_meta().tensors["c"].device.type == "meta"
