import pytest
import torch

from compress.network.graph import Network
from compress.pruners import PRUNERS, Scores
from compress.structure import channel_groups
from tests.compress.networks import NETWORKS, chain, images


def _scores(name: str, network: Network) -> Scores:
    return PRUNERS.get(name).scores(network, channel_groups(network), images(network, count=16))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", PRUNERS.names())
def test_every_channel_of_every_group_has_a_finite_score(name: str, network: str) -> None:
    built = NETWORKS[network]()

    scores = _scores(name, built)

    groups = channel_groups(built).groups
    assert {group: tuple(values.shape) for group, values in scores.items()} == {
        group.name: (group.channels,) for group in groups
    }
    assert all(bool(torch.isfinite(values).all()) for values in scores.values())
    assert all(values.dtype == torch.float64 for values in scores.values())


@pytest.mark.parametrize("name", PRUNERS.names())
def test_the_same_network_gets_the_same_scores(name: str) -> None:
    first, second = _scores(name, chain()), _scores(name, chain())

    assert all(torch.equal(values, second[group]) for group, values in first.items())


@pytest.mark.parametrize("name", PRUNERS.names())
def test_a_channel_that_is_always_zero_and_never_read_scores_lowest(name: str) -> None:
    network = chain()
    tensors = {key: tensor.clone() for key, tensor in network.tensors.items()}
    for tensor in ("conv1.weight", "bn1.weight", "bn1.bias"):
        tensors[tensor][3] = 0.0
    tensors["conv2.weight"][:, 3] = 0.0

    scores = _scores(name, Network(graph=network.graph, tensors=tensors))

    assert int(scores["conv1"].argmin()) == 3


@pytest.mark.parametrize("name", PRUNERS.names())
def test_reordering_channels_reorders_scores(name: str) -> None:
    network = chain()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(2))
    tensors = dict(network.tensors)
    for tensor in ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"):
        tensors[tensor] = tensors[tensor][order]
    tensors["conv2.weight"] = tensors["conv2.weight"][:, order]

    moved = _scores(name, Network(graph=network.graph, tensors=tensors))

    torch.testing.assert_close(moved["conv1"], _scores(name, network)["conv1"][order], rtol=1e-4, atol=1e-7)
