import torch

from compress.network.graph import Network
from compress.plan import OperatorChoice, Plan
from compress.runner import run
from compress.structure import analyse, restructure
from tests.compress.networks import images, residual


def narrower(network: Network, ratio: float, **ratios: float) -> Network:
    choice = OperatorChoice(operator="width", parameters={"width_ratio": ratio})
    return restructure(network, Plan(operators={"a": choice}, keep_ratios=ratios), structure=analyse(network))


def test_a_share_of_the_channels_inside_stays() -> None:
    changed = narrower(residual(), 0.5)

    assert changed.tensors["a.conv1/narrow.weight"].shape == (3, 4, 3, 3)  # 6 channels inside, 4 outside
    assert changed.tensors["a.conv2/narrow.weight"].shape == (4, 3, 3, 3)


def test_channels_without_weight_go_first() -> None:
    network = residual()
    tensors = dict(network.tensors)
    for name, axis in (("a.conv1.weight", 0), ("a.conv2.weight", 1)):
        tensors[name] = tensors[name].clone()
        tensors[name].index_fill_(axis, torch.tensor([0, 2, 5]), 0.0)
    tensors["a.bn1.bias"] = tensors["a.bn1.running_mean"] = torch.zeros(6)
    half_empty = Network(graph=network.graph, tensors=tensors)

    changed = narrower(half_empty, 0.5)

    torch.testing.assert_close(
        run(changed, images(network))[0], run(half_empty, images(network))[0], rtol=1e-4, atol=1e-5
    )


def test_channels_outside_can_still_be_cut_and_those_inside_are_narrow_already() -> None:
    network = residual()
    groups = {group.name: group for group in analyse(network).groups.groups}
    outer = next(name for name, group in groups.items() if "stem.conv" in group.layers)

    changed = narrower(network, 0.5, **{outer: 0.5, "a.conv1": 0.5})

    assert changed.tensors["a.conv1/narrow.weight"].shape[:2] == (3, 2)
