import pytest
import torch

from compress.network.build import run_shapes
from compress.rewrites import fold_batch_norm
from compress.runner import run
from tests.compress.networks import NETWORKS, Builder, chain, dense, images, residual


@pytest.mark.parametrize("name", NETWORKS)
def test_folding_changes_no_output(name: str) -> None:
    network = NETWORKS[name]()

    folded = fold_batch_norm(network)

    for found, expected in zip(run(folded, images(network)), run(network, images(network)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert dict(folded.graph.shapes) == dict(run_shapes(folded).shapes)


def test_a_folded_layer_has_the_scaled_weight_and_a_bias() -> None:
    # One 1x1 channel: w = 3, b = 1; norm: g = 4, beta = 5, mean = 2, var + eps = 4, so s = 4 / 2 = 2:
    # weight 3 * 2 = 6, bias (1 - 2) * 2 + 5 = 3.
    net = Builder(1, 2, 2)
    value = net.norm("bn", net.conv("conv", "x", (1, 1), kernel=1), 1)
    values = {"conv.weight": 3.0, "conv.bias": 1.0, "bn.weight": 4.0, "bn.bias": 5.0, "bn.running_mean": 2.0}
    for name, number in {**values, "bn.running_var": 4.0 - 1e-5}.items():
        net.tensors[name] = torch.full_like(net.tensors[name], number)
    network = net.network(value)

    folded = fold_batch_norm(network)

    (node,) = folded.graph.nodes
    assert (node.name, node.outputs) == ("conv", ("bn",))
    assert folded.tensors[node.parameters["weight"]].item() == pytest.approx(6.0)
    assert folded.tensors[node.parameters["bias"]].item() == pytest.approx(3.0)


@pytest.mark.parametrize(("transpose", "groups"), [(False, 1), (False, 2), (True, 1), (True, 2)])
def test_every_kind_of_convolution_folds(transpose: bool, groups: int) -> None:
    net = Builder(4, 4, 4)
    value = net.conv("conv", "x", (4, 6), groups=groups, transpose=transpose, bias=False)
    network = net.network(net.norm("bn", value, 6))

    folded = fold_batch_norm(network)

    assert [node.op for node in folded.graph.nodes] == ["conv_transpose" if transpose else "conv"]
    torch.testing.assert_close(run(folded, images(network))[0], run(network, images(network))[0], rtol=1e-5, atol=1e-5)


def test_a_linear_layer_folds() -> None:
    net = Builder(5)
    network = net.network(net.norm("bn", net.linear("fc", "x", (5, 4)), 4))

    folded = fold_batch_norm(network)

    assert [node.op for node in folded.graph.nodes] == ["linear"]
    torch.testing.assert_close(run(folded, images(network))[0], run(network, images(network))[0], rtol=1e-5, atol=1e-5)


def test_a_batch_norm_stays_where_the_layer_has_another_reader() -> None:
    network = dense()

    ops = {node.name for node in fold_batch_norm(network).graph.nodes if node.op == "batch_norm"}

    assert ops == {"bn1", "bn2"}  # conv1 is concatenated too; bn2 follows the concatenation


def test_folding_on_meta_gives_the_same_shapes() -> None:
    network = residual()

    folded, shapes = fold_batch_norm(network), fold_batch_norm(network.to_meta())

    assert shapes.graph == folded.graph
    assert {name: t.shape for name, t in shapes.tensors.items()} == {n: t.shape for n, t in folded.tensors.items()}


def test_folding_twice_is_folding_once() -> None:
    folded = fold_batch_norm(chain())

    assert fold_batch_norm(folded) is folded
