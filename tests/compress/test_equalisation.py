import pytest
import torch

from compress.equalisation import equalised, pairs, scaled_statistics
from compress.network.graph import Attribute, Network
from compress.repair import channel_statistics
from compress.rewrites import fold_batch_norm
from compress.runner import run
from tests.compress.networks import NETWORKS, Builder, images, residual


def chain(activation: str = "relu") -> Network:
    net = Builder(3, 6, 6)
    first = net.conv("first", "x", (3, 4))
    options: dict[str, dict[str, Attribute]] = {"clip": {"min": 0.0, "max": 6.0}, "leaky_relu": {"slope": 0.1}}
    between = net.node("between", activation, (first,), (), {}, options.get(activation, {}))
    network = net.network(net.conv("second", between, (4, 5)))
    factor = torch.tensor([100.0, 1.0, 0.01, 1.0])
    tensors = {**network.tensors, "first.weight": network.tensors["first.weight"] * factor.reshape(-1, 1, 1, 1)}
    return Network(graph=network.graph, tensors=tensors)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_stays_the_same(name: str) -> None:
    network = fold_batch_norm(NETWORKS[name]())
    x = images(network, 4)

    changed, _ = equalised(network)

    torch.testing.assert_close(run(changed, x)[0], run(network, x)[0], rtol=1e-3, atol=1e-4)


def test_both_sides_of_every_channel_end_with_the_same_range() -> None:
    changed, factors = equalised(chain())

    rows = changed.tensors["first.weight"].flatten(1).abs().amax(1)
    columns = changed.tensors["second.weight"].transpose(0, 1).flatten(1).abs().amax(1)
    torch.testing.assert_close(rows, columns, rtol=1e-3, atol=0)
    assert set(factors) == {"first", "between"}


@pytest.mark.parametrize(("activation", "count"), [("relu", 1), ("leaky_relu", 1), ("clip", 0), ("sigmoid", 0)])
def test_only_activations_that_scale_with_their_input_may_stand_between(activation: str, count: int) -> None:
    assert len(pairs(chain(activation))) == count


def test_layers_with_more_than_one_reader_are_left_alone() -> None:
    network = fold_batch_norm(residual())

    assert {(pair.first.name, pair.second.name) for pair in pairs(network)} == {
        ("a.conv1", "a.conv2"),
        ("b.conv1", "b.conv2"),
    }


def test_a_channel_of_zeros_keeps_its_scale() -> None:
    network = chain()
    network.tensors["first.weight"][1] = 0

    _, factors = equalised(network)

    assert factors["first"][1] == 1.0
    assert factors["first"].isfinite().all()


def test_statistics_are_those_of_the_equalised_network() -> None:
    network = chain()
    x = images(network, 8)

    changed, factors = equalised(network)

    scaled = scaled_statistics(channel_statistics(network, x), factors)
    for name, found in channel_statistics(changed, x).items():
        torch.testing.assert_close(found.mean, scaled[name].mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.std, scaled[name].std, rtol=1e-3, atol=1e-4)
