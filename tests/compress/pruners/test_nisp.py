import pytest
import torch
from torch import Tensor

from compress.network.graph import Network
from compress.pruners import PRUNERS
from compress.pruners.infinite_selection import infinite_selection
from compress.pruners.nisp import propagated
from compress.runner import run
from compress.structure import channel_groups
from tests.compress.networks import Builder, chain, images


def _perceptron() -> Network:
    net = Builder(5)
    first = net.op("relu1", "relu", net.linear("fc1", "x", (5, 6)))
    second = net.op("relu2", "relu", net.linear("fc2", first, (6, 4)))
    return net.network(net.linear("fc3", second, (4, 3)))


def test_importance_goes_back_through_absolute_weights() -> None:
    network = _perceptron()
    seed = torch.tensor([[0.1, 0.0, 2.0, 1.0]], dtype=torch.float64)

    found = propagated(network, {"relu2": seed})

    weights = [network.tensors[f"fc{i}.weight"].to(torch.float64).abs() for i in (1, 2)]
    torch.testing.assert_close(found["fc2"], seed)
    torch.testing.assert_close(found["relu1"], seed @ weights[1])
    torch.testing.assert_close(found["x"], seed @ weights[1] @ weights[0])


@pytest.mark.parametrize(("stride", "transpose"), [(1, False), (2, False), (2, True)])
def test_a_convolution_propagates_like_its_matrix(stride: int, transpose: bool) -> None:
    net = Builder(2, 4, 4)
    network = net.network(net.conv("conv", "x", (2, 3), stride=stride, transpose=transpose, bias=False))
    seed = torch.rand(network.graph.shapes["conv"], dtype=torch.float64)

    found = propagated(network, {"conv": seed})["x"]

    # Column j of the layer as a matrix is its answer to the j-th unit image.
    units = torch.eye(32).reshape(32, 2, 4, 4)
    matrix = run(network, units)[0].flatten(1).T.abs().to(torch.float64)
    torch.testing.assert_close(found.flatten(), matrix.T @ seed.flatten(), rtol=1e-5, atol=1e-6)


def test_removed_channels_change_the_features_by_at_most_the_bound() -> None:
    network = _perceptron()
    seed = torch.tensor([[0.1, 0.0, 2.0, 1.0]], dtype=torch.float64)
    bound_per_unit = propagated(network, {"relu2": seed})["relu1"]
    generator = torch.Generator().manual_seed(3)

    for _ in range(20):
        mask = (torch.rand(6, generator=generator) > 0.5).float()
        seen: list[Tensor] = []

        def keep(name: str, node: object, value: Tensor, seen: list[Tensor] = seen) -> Tensor:
            if name in ("relu1", "relu2"):
                seen.append(value)
            return value

        def silence(name: str, node: object, value: Tensor, mask: Tensor = mask) -> Tensor:
            return value * mask if name == "relu1" else value

        run(network, images(network, 8, seed=5), keep)
        run(network, images(network, 8, seed=5), silence, keep)
        hidden, whole, _, cut = seen
        change = ((whole - cut).abs().to(torch.float64) * seed).sum(1)
        bound = (bound_per_unit * (1 - mask) * hidden.abs()).sum(1)
        assert bool((change <= bound + 1e-6).all())


def test_a_channel_that_nobody_listens_to_scores_zero() -> None:
    network = chain()
    tensors = dict(network.tensors)
    tensors["conv2.weight"] = tensors["conv2.weight"].clone()
    tensors["conv2.weight"][:, 5] = 0.0

    deaf = Network(graph=network.graph, tensors=tensors)
    scores = PRUNERS.get("nisp").scores(deaf, channel_groups(deaf), images(deaf, 16))

    assert float(scores["conv1"][5]) == 0.0
    assert bool((scores["conv1"][[0, 1, 2, 3, 4, 6, 7]] > 0).all())


def test_a_shortcut_adds_the_importance_of_both_ways() -> None:
    net = Builder(2, 2, 2)
    stem = net.conv("stem", "x", (2, 2), kernel=1)
    network = net.network(net.op("add", "add", net.conv("conv", stem, (2, 2), kernel=1), stem))
    seed = torch.ones(1, 2, 2, 2, dtype=torch.float64)

    found = propagated(network, {"add": seed})["stem"]

    # |W|^T 1 by the convolution, and 1 by the shortcut, at each pixel
    weight = network.tensors["conv.weight"].to(torch.float64).abs().flatten(1)
    torch.testing.assert_close(found[0, :, 0, 0], weight.sum(0) + 1)


def test_pooling_spreads_importance_evenly() -> None:
    net = Builder(1, 4, 4)
    network = net.network(
        net.op("pool", "max_pool", "x", kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1))
    )

    found = propagated(network, {"pool": torch.tensor([[[[4.0, 8.0], [0.0, 12.0]]]])})["x"]

    assert found[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 3, 3], [0, 0, 3, 3]]


def test_duplicated_features_are_equally_important() -> None:
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))

    found = infinite_selection(torch.cat([features, features[:, :1]], dim=1))

    assert float(found[0]) == pytest.approx(float(found[4]), rel=1e-9)
    assert bool((found >= 0).all())


def test_a_constant_feature_is_no_fault() -> None:
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    features[:, 2] = 1.0

    assert bool(torch.isfinite(infinite_selection(features)).all())
