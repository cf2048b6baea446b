from dataclasses import replace

import pytest
import torch
from torch import Tensor

from compress.apply import apply, prepare
from compress.network.graph import Network
from compress.plan import OperatorChoice, Plan
from compress.reconstruction import layer_samples, reconstructed
from compress.runner import run
from compress.structure import Restructured, analyse, restructured
from tests.compress.networks import NETWORKS, Builder, images, residual


def _refitted(network: Network, plan: Plan, count: int = 256) -> tuple[Restructured, Network]:
    structure = analyse(network)
    result = restructured(network, plan, structure=structure)
    calibration = images(network, count)
    samples = layer_samples(structure.prepared(network).folded, calibration)
    return result, reconstructed(samples, network, structure, result, calibration)


def _error(found: Network, network: Network, seed: int) -> float:
    (one,), (other,) = (run(each, images(network, 256, seed)) for each in (found, network))
    return float((one - other).square().mean())


def test_a_layer_makes_up_for_a_channel_that_repeats_another() -> None:
    # Channels 0 and 3 of conv1 are the same, so what conv2 took from channel 3 it can take from channel 0.
    net = Builder(3, 6, 6)
    first = net.op("relu1", "relu", net.conv("conv1", "x", (3, 4)))
    network = net.network(net.head(net.op("relu2", "relu", net.conv("conv2", first, (4, 5), stride=2)), 5))
    for name in ("conv1.weight", "conv1.bias"):
        network.tensors[name][3] = network.tensors[name][0]

    cut, refitted = _refitted(network, Plan(keep_ratios={"conv1": 0.75}))

    whole = float(run(network, images(network, 256, 7))[0].var())
    assert _error(cut.network, network, 7) > 0.01 * whole
    assert _error(refitted, network, 7) < 1e-4 * whole


@pytest.mark.parametrize("name", ["chain", "residual", "projected", "inverted", "flattened", "attentive"])
def test_outputs_come_nearer_to_the_float_networks_on_other_images(name: str) -> None:
    network = NETWORKS[name]()
    ratios = {group.name: 0.7 for group in analyse(network).groups.groups}

    cut, refitted = _refitted(network, Plan(keep_ratios=ratios))

    assert _error(refitted, network, 9) < _error(cut.network, network, 9)


def test_an_unchanged_network_keeps_its_very_tensors() -> None:
    network = residual()

    same, refitted = _refitted(network, Plan())

    assert all(refitted.tensors[name] is tensor for name, tensor in same.network.tensors.items())


def test_a_plan_asks_for_it_by_name() -> None:
    network = residual()
    prepared = prepare(network, images(network, 64), structure=analyse(network))
    plan = Plan(keep_ratios={"a.conv1": 0.5}, repair="least_squares")

    errors = [
        _error(apply(prepared, replace(plan, repair=repair)).network, network, 1)
        for repair in ("none", "least_squares")
    ]

    assert errors[1] < errors[0]


def test_shapes_and_names_stay() -> None:
    network = residual()
    plan = Plan(operators={"a": OperatorChoice(operator="low_rank")}, keep_ratios={"b.conv1": 0.5})

    result, refitted = _refitted(network, plan)

    assert refitted.graph == result.network.graph
    shapes: list[dict[str, torch.Size]] = [
        {name: tensor.shape for name, tensor in each.tensors.items()} for each in (refitted, result.network)
    ]
    assert shapes[0] == shapes[1]


def test_samples_are_the_layers_outputs_at_their_positions() -> None:
    network = residual()
    seen: dict[str, Tensor] = {}

    def keep(name: str, node: object, value: Tensor) -> Tensor:
        seen[name] = value
        return value

    samples = layer_samples(network, images(network, 3))["b.conv1"]
    run(network, images(network, 3), keep)

    image, place = 1, 5
    position = int(samples.positions[image, place])
    row = image * samples.positions.shape[1] + place
    torch.testing.assert_close(samples.values[row], seen["b.conv1"][image, :, position // 4, position % 4])
