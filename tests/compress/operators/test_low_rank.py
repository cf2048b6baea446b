import pytest
import torch

from compress.network.graph import Network
from compress.plan import OperatorChoice, Plan
from compress.runner import run
from compress.structure import analyse, restructure
from tests.compress.networks import images, residual


def _factored(network: Network, ratio: float) -> Network:
    choice = OperatorChoice(operator="low_rank", parameters={"rank_ratio": ratio})
    return restructure(network, Plan(operators={"a": choice, "b": choice}), structure=analyse(network))


def test_a_weight_of_that_rank_is_kept_exactly() -> None:
    network = residual()
    tensors = dict(network.tensors)
    for name, rank in (("a.conv1.weight", 3), ("a.conv2.weight", 2), ("b.conv1.weight", 4), ("b.conv2.weight", 4)):
        u, s, v = torch.linalg.svd(tensors[name].flatten(1), full_matrices=False)
        tensors[name] = ((u[:, :rank] * s[:rank]) @ v[:rank]).reshape(tensors[name].shape)
    low = Network(graph=network.graph, tensors=tensors)

    factored = _factored(low, 0.5)  # half of the full ranks 6, 4, 8, 8

    assert factored.graph.node("a.conv1/reduce").op == "conv"
    torch.testing.assert_close(run(factored, images(network))[0], run(low, images(network))[0], rtol=1e-3, atol=1e-4)


def test_the_error_of_a_weight_is_that_of_the_dropped_singular_values() -> None:
    network = residual()
    folded = analyse(network).prepared(network).folded
    weight = folded.tensors["b.conv2.weight"]

    factored = _factored(network, 0.375)  # 3 of 8

    reduce, expand = (factored.tensors[f"b.conv2/{role}.weight"] for role in ("reduce", "expand"))
    error = (weight.flatten(1) - expand.flatten(1) @ reduce.flatten(1)).norm()
    dropped = torch.linalg.svdvals(weight.flatten(1))[3:].norm()
    assert float(error) == pytest.approx(float(dropped), rel=1e-4)


def test_stride_stays_with_the_first_factor_and_the_bias_with_the_second() -> None:
    factored = _factored(residual(), 0.5)

    reduce, expand = (factored.graph.node(f"b.conv1/{role}") for role in ("reduce", "expand"))

    assert (reduce.attributes["stride"], expand.attributes["stride"]) == ((2, 2), (1, 1))
    assert ("bias" in reduce.parameters, "bias" in expand.parameters) == (False, True)
    assert factored.graph.shapes["b.conv1/reduce"] == (1, 4, 4, 4)


def test_in_the_spatial_form_a_column_comes_before_a_row() -> None:
    network = residual()
    choice = OperatorChoice(operator="low_rank", parameters={"form": "spatial", "rank_ratio": 0.5})

    factored = restructure(network, Plan(operators={"b": choice}), structure=analyse(network))

    # half of the full ranks 8 and 8 of the channel form
    assert factored.tensors["b.conv1/reduce.weight"].shape == (4, 4, 3, 1)
    assert factored.tensors["b.conv1/expand.weight"].shape == (8, 4, 1, 3)
    assert factored.graph.node("b.conv1/reduce").attributes["stride"] == (2, 1)
    assert factored.graph.node("b.conv1/expand").attributes["stride"] == (1, 2)
    assert factored.graph.shapes["b.conv1/reduce"] == (1, 4, 4, 8)


def test_the_spatial_form_keeps_filters_that_are_a_column_times_a_row() -> None:
    network = residual()
    generator = torch.Generator().manual_seed(2)
    tensors = dict(network.tensors)
    for name in ("a.conv1.weight", "a.conv2.weight"):  # rank 2, of 3 and 2 that are kept
        outputs, inputs, *_ = tensors[name].shape
        columns = torch.randn(2, inputs, 3, 1, generator=generator)
        rows = torch.randn(outputs, 2, 1, 3, generator=generator)
        tensors[name] = torch.einsum("rchi,orjw->ochw", columns, rows)
    low = Network(graph=network.graph, tensors=tensors)
    choice = OperatorChoice(operator="low_rank", parameters={"form": "spatial", "rank_ratio": 0.5})

    factored = restructure(low, Plan(operators={"a": choice}), structure=analyse(low))

    assert factored.graph.node("a.conv1/reduce").op == "conv"
    torch.testing.assert_close(run(factored, images(network))[0], run(low, images(network))[0], rtol=1e-3, atol=1e-3)
