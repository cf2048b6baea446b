import torch

from compress.network.graph import Network
from compress.operators import OPERATORS
from compress.plan import OperatorChoice, Plan
from compress.runner import run
from compress.structure import analyse, restructure
from tests.compress.networks import Builder, images


def unit(kernel: int) -> Network:
    net = Builder(3, 12, 12)
    entry = net.conv("stem", "x", (3, 4), kernel=1)
    inner = net.conv("a.conv", entry, (4, 4), kernel=kernel)
    value = net.op("a.relu", "relu", net.op("a.add", "add", inner, entry))
    return net.network(net.conv("out", value, (4, 3), kernel=1))


def smaller(network: Network, less: int) -> Network:
    choice = OperatorChoice(operator="kernel", parameters={"less_taps": less})
    return restructure(network, Plan(operators={"a": choice}), structure=analyse(network))


def test_rings_of_taps_go_but_never_the_last_one() -> None:
    sizes = {
        (kernel, less): tuple(smaller(unit(kernel), less).tensors["a.conv/kernel.weight"].shape[2:])
        for kernel in (3, 5, 7)
        for less in (2, 4)
    }

    assert sizes == {
        (3, 2): (1, 1),
        (3, 4): (1, 1),
        (5, 2): (3, 3),
        (5, 4): (1, 1),
        (7, 2): (5, 5),
        (7, 4): (3, 3),
    }


def test_taps_that_go_are_added_to_their_nearest_neighbours() -> None:
    network = unit(3)

    weight = smaller(network, 2).tensors["a.conv/kernel.weight"]

    torch.testing.assert_close(weight[:, :, 0, 0], network.tensors["a.conv.weight"].sum((2, 3)))


def test_a_constant_image_keeps_its_response_away_from_the_border() -> None:
    network = unit(5)
    constant = torch.ones_like(images(network))

    before, after = (run(found, constant)[0][:, :, 2:-2, 2:-2] for found in (network, smaller(network, 2)))

    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_kernels_that_reach_beyond_their_padding_do_not_fit() -> None:
    net = Builder(3, 8, 8)
    entry = net.op("crop", "slice", net.conv("stem", "x", (3, 4), kernel=1), dim=2, start=0)
    inner = net.conv("a.conv", entry, (4, 4), kernel=1)
    network = net.network(net.op("a.add", "add", inner, entry))
    (block,) = analyse(network).blocks

    assert (
        OPERATORS.get("kernel").fits(block, network)
        == "a has no dense convolution with a padded kernel of odd size above 1"
    )
