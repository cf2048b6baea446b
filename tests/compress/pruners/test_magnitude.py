import pytest
import torch

from compress.pruners import PRUNERS
from compress.structure import channel_groups
from tests.compress.networks import Builder


@pytest.mark.parametrize(
    ("pruner", "expected"),
    [
        # Filters (3, 4), (0, 5), (1, 0): sums 7, 5, 1, mean 13/3; Euclidean 5, 5, 1, mean 11/3.
        ("l1", [21 / 13, 15 / 13, 3 / 13]),
        ("l2", [15 / 11, 15 / 11, 3 / 11]),
    ],
)
def test_scores_are_norms_relative_to_the_layers_mean(pruner: str, expected: list[float]) -> None:
    net = Builder(2, 2, 2)
    value = net.conv("conv", "x", (2, 3), kernel=1)
    net.tensors["conv.weight"] = torch.tensor([[3.0, -4.0], [0.0, 5.0], [1.0, 0.0]]).reshape(3, 2, 1, 1)
    network = net.network(net.head(value, 3))

    scores = PRUNERS.get(pruner).scores(network, channel_groups(network))

    torch.testing.assert_close(scores["conv"], torch.tensor(expected, dtype=torch.float64))


def test_batch_norm_scale_counts_relative_to_the_layers_mean() -> None:
    net = Builder(2, 2, 2)
    value = net.norm("bn", net.conv("conv", "x", (2, 3), kernel=1), 3)
    net.tensors["bn.weight"] = torch.tensor([-2.0, 1.0, 3.0])  # mean of absolute values: 2
    network = net.network(net.head(value, 3))

    scores = PRUNERS.get("batch_norm_scale").scores(network, channel_groups(network))

    torch.testing.assert_close(scores["conv"], torch.tensor([1.0, 0.5, 1.5], dtype=torch.float64))
