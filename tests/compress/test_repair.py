import numpy as np
import pytest
import torch

from compress.network.graph import Network
from compress.plan import OperatorChoice, Plan
from compress.repair import ChannelRepair, ChannelStatistics, channel_statistics, corrected, targets
from compress.runner import run
from compress.structure import Restructured, analyse, restructured
from tests.compress.networks import NETWORKS, images, residual


def _repaired(network: Network, plan: Plan) -> tuple[Restructured, dict[str, ChannelStatistics], Network]:
    """Return the restructured network, the statistics wanted, and the network that the repair leads to."""
    structure = analyse(network)
    result = restructured(network, plan, structure=structure)
    statistics = channel_statistics(structure.prepared(network).folded, images(network, 64))
    wanted = targets(statistics, network, structure, result)
    repair = ChannelRepair(wanted)
    run(result.network, images(network, 64), repair)
    return result, wanted, corrected(result.network, repair.corrections)


def _plan(network: Network, ratio: float) -> Plan:
    return Plan(keep_ratios={group.name: ratio for group in analyse(network).groups.groups})


def test_statistics_are_means_and_deviations_per_channel() -> None:
    network = residual()
    seen = {}

    def keep(name: str, node: object, value: torch.Tensor) -> torch.Tensor:
        seen[name] = value.numpy()
        return value

    statistics = channel_statistics(network, images(network, 8))
    run(network, images(network, 8), keep)

    np.testing.assert_allclose(statistics["a.conv1"].mean, seen["a.conv1"].mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics["a.conv1"].std, seen["a.conv1"].std((0, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(statistics["head"].mean, seen["head"].mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["chain", "residual", "inverted", "grouped", "flattened", "upscaled"])
def test_every_layer_of_the_repaired_network_has_the_statistics_wanted(name: str) -> None:
    network = NETWORKS[name]()

    _, wanted, repaired = _repaired(network, _plan(network, 0.75))

    found = channel_statistics(repaired, images(network, 64))
    assert set(found) == set(wanted)
    for value, expected in wanted.items():
        torch.testing.assert_close(found[value].mean, expected.mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found[value].std, expected.std, rtol=1e-3, atol=1e-4)


def test_an_unchanged_network_is_left_as_it_is() -> None:
    network = residual()

    result, _, repaired = _repaired(network, Plan())

    for name, tensor in result.network.tensors.items():
        torch.testing.assert_close(repaired.tensors[name], tensor, rtol=1e-4, atol=1e-5)


def test_wanted_statistics_are_those_of_the_channels_that_stay() -> None:
    network = residual()
    structure = analyse(network)
    scores = {group.name: torch.zeros(group.channels) for group in structure.groups.groups}
    scores["a.conv1"] = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    result = restructured(network, Plan(keep_ratios={"a.conv1": 0.5}), structure=structure, scores=scores)
    statistics = channel_statistics(structure.prepared(network).folded, images(network))

    wanted = targets(statistics, network, structure, result)

    torch.testing.assert_close(wanted["a.bn1"].mean, statistics["a.bn1"].mean[[1, 3, 5]])
    torch.testing.assert_close(wanted["a.bn2"].mean, statistics["a.bn2"].mean)


def test_the_second_factor_of_a_product_is_repaired_in_the_layers_place() -> None:
    network = residual()
    plan = Plan(operators={"a": OperatorChoice(operator="low_rank", parameters={"rank_ratio": 0.25})})

    result, wanted, repaired = _repaired(network, plan)

    found = channel_statistics(repaired, images(network, 64))
    torch.testing.assert_close(found["a.bn1"].std, wanted["a.bn1"].std, rtol=1e-3, atol=1e-4)
    reduce = "a.conv1/reduce.weight"
    torch.testing.assert_close(repaired.tensors[reduce], result.network.tensors[reduce])


def test_the_pass_and_the_corrected_network_agree() -> None:
    network = residual()
    structure = analyse(network)
    result = restructured(network, _plan(network, 0.5), structure=structure)
    statistics = channel_statistics(structure.prepared(network).folded, images(network, 16))
    repair = ChannelRepair(targets(statistics, network, structure, result))

    (passed,) = run(result.network, images(network, 16), repair)

    (again,) = run(corrected(result.network, repair.corrections), images(network, 16))
    torch.testing.assert_close(passed, again, rtol=1e-4, atol=1e-4)


def test_a_layer_without_bias_is_only_scaled() -> None:
    network = NETWORKS["dense"]()
    bare = Network(
        graph=network.graph.with_nodes(
            [
                node
                if node.name != "conv3"
                else type(node)(
                    name=node.name,
                    op=node.op,
                    inputs=node.inputs,
                    outputs=node.outputs,
                    attributes=node.attributes,
                    parameters={"weight": node.parameters["weight"]},
                )
                for node in network.graph.nodes
            ]
        ),
        tensors=network.tensors,
    ).used()

    result, _, repaired = _repaired(bare, _plan(bare, 0.5))

    assert repaired.graph.node("conv3").parameters == {"weight": "conv3.weight"}
    assert set(repaired.tensors) == set(result.network.tensors)
