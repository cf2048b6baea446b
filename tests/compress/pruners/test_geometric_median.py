import torch

from compress.pruners import PRUNERS
from compress.structure import channel_groups
from tests.compress.networks import Builder


def test_the_filter_in_the_middle_scores_lowest() -> None:
    # Filters 0, 3 and 4 on a line: distances sum to 7, 4 and 5; their mean is 16 / 3.
    net = Builder(1, 2, 2)
    value = net.conv("conv", "x", (1, 3), kernel=1)
    net.tensors["conv.weight"] = torch.tensor([0.0, 3.0, 4.0]).reshape(3, 1, 1, 1)
    network = net.network(net.head(value, 3))

    scores = PRUNERS.get("geometric_median").scores(network, channel_groups(network))

    torch.testing.assert_close(scores["conv"], torch.tensor([21 / 16, 12 / 16, 15 / 16], dtype=torch.float64))
