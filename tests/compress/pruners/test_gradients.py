from dataclasses import replace

import pytest
import torch
from torch import Tensor

from compress.network.graph import Network, Node
from compress.pruners import PRUNERS
from compress.pruners.gradients import responses
from compress.rewrites import fold_batch_norm
from compress.runner import run
from compress.structure import channel_groups
from hwmodels.errors import InputError
from tests.compress.networks import NETWORKS, Builder, chain, images, residual


def test_scores_of_a_network_that_is_worked_out_by_hand() -> None:
    # One pixel x = 1; channels 2 and 1; class scores 3 * 2 = 6 and 3 * 1 = 3 for two classes. The probability of the
    # first class is p = 1 / (1 + exp(-3)), and almost all draws give it: the gradient by the scores is (p - 1, 1 - p),
    # by the channels 3 (p - 1) and 3 (1 - p), and activation times gradient -6 (1 - p) and 3 (1 - p).
    net = Builder(1, 1, 1)
    value = net.conv("conv", "x", (1, 2), kernel=1, bias=False)
    net.tensors["conv.weight"] = torch.tensor([2.0, 1.0]).reshape(2, 1, 1, 1)
    network = net.network(net.linear("head", net.op("flat", "flatten", value, start_dim=1, end_dim=-1), (2, 2)))
    network.tensors["head.weight"].copy_(3 * torch.eye(2))
    network.tensors["head.bias"].zero_()

    found = responses(network, channel_groups(network), torch.ones(1, 1, 1, 1), draws=1)["conv"]

    rest = 1 / (1 + torch.e**3)
    torch.testing.assert_close(found, torch.tensor([[[-6 * rest, 3 * rest]]], dtype=torch.float64), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["residual", "grouped", "flattened", "attentive"])
def test_responses_are_the_slope_of_the_loss_by_a_factor_on_all_layers_of_the_group(name: str) -> None:
    network = NETWORKS[name]()
    tensors = {key: tensor.double() for key, tensor in network.tensors.items()}
    network = fold_batch_norm(Network(graph=network.graph, tensors=tensors))
    groups = channel_groups(network)
    group = groups.groups[0]
    batch = images(network, 3).double()
    written = {node.outputs[0] for node in network.graph.nodes if node.name in group.layers}
    factors = torch.ones(group.channels, dtype=torch.float64)

    def scaled(name: str, node: Node | None, value: Tensor) -> Tensor:
        for member in group.values:
            if member.name == name and name in written:
                positions, channels = member.positions()
                shape = [1] * value.ndim
                shape[member.axis] = -1
                factor = torch.ones(value.shape[member.axis], dtype=torch.float64)
                factor[torch.from_numpy(positions)] = factors[torch.from_numpy(channels)]
                value = value * factor.reshape(shape)
        return value

    def likelihood(image: int, label: int) -> float:
        return float(-run(network, batch, scaled)[0].log_softmax(1)[image, label])

    found = responses(network, groups, batch, draws=1)[group.name]

    step = 1e-5
    for image in range(3):
        slopes = []
        for label in range(3):  # whichever was drawn
            factors[1] = 1 + step
            above = likelihood(image, label)
            factors[1] = 1 - step
            slopes.append((above - likelihood(image, label)) / (2 * step))
            factors[1] = 1.0
        assert min(abs(slope - float(found[0, image, 1])) for slope in slopes) < 1e-6


def test_the_mean_square_over_draws_is_the_fisher_information() -> None:
    # Per image the expectation of the squared slope over classes, each with its probability.
    network = chain()
    groups = channel_groups(network)
    batch = images(network, 64)

    few = responses(network, groups, batch, draws=4)["conv1"].square().mean((0, 1))
    many = responses(network, groups, batch, draws=200)["conv1"].square().mean((0, 1))

    torch.testing.assert_close(few, many, rtol=0.25, atol=0)


def test_images_that_lie_along_another_axis_count_one_by_one() -> None:
    net = Builder(4, 6)
    moved = net.op("moved", "permute", "x", dims=(1, 0, 2))  # positions first, as attention has them
    hidden = net.op("relu", "relu", net.linear("fc", moved, (6, 5)))
    back = net.op("back", "permute", hidden, dims=(1, 0, 2))
    network = net.network(net.linear("head", net.op("mean", "mean", back, dims=(1,), keepdim=False), (5, 3)))
    groups, batch = channel_groups(network), images(network, 5)

    together = responses(network, groups, batch, draws=1)["fc"]

    torch.testing.assert_close(together.sum((0, 2)), together[0].sum(1))
    first = responses(network, groups, batch[:1], draws=1)["fc"]
    torch.testing.assert_close(together[:, :1], first, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pruner", ["taylor", "fisher"])
def test_outputs_that_are_no_classes_have_scores_too(pruner: str) -> None:
    graph, left_out = residual().graph, ("pool", "flatten", "head")
    cut = Network(
        graph=replace(
            graph,
            nodes=tuple(node for node in graph.nodes if node.name not in left_out),
            outputs=("b.relu2", "a.relu2"),
            shapes={name: shape for name, shape in graph.shapes.items() if name not in left_out},
        ),
        tensors=residual().tensors,
    ).used()

    scores = PRUNERS.get(pruner).scores(cut, channel_groups(cut), images(cut, 8))

    assert scores
    assert all(bool((values > 0).all()) for values in scores.values())


@pytest.mark.parametrize("pruner", ["taylor", "fisher"])
def test_without_images_there_is_no_gradient(pruner: str) -> None:
    network = chain()

    with pytest.raises(InputError, match="needs gradients"):
        PRUNERS.get(pruner).scores(network, channel_groups(network))
