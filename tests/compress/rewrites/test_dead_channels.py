from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.network.graph import Network
from compress.network.groups import candidate_groups
from compress.rewrites import remove_dead_channels
from compress.runner import run
from tests.compress.networks import NETWORKS, Builder, chain, images, residual


def _with(network: Network, **changed: Tensor) -> Network:
    named = {name.replace("__", "."): tensor for name, tensor in changed.items()}
    return replace(network, tensors={**network.tensors, **named})


def _zeroed(network: Network, tensor: str, channels: list[int], value: float = 0.0) -> Tensor:
    changed = network.tensors[tensor].clone()
    changed[channels] = value
    return changed


def _assert_equal(changed: Network, network: Network) -> None:
    x = images(network, 3)
    for found, expected in zip(run(changed, x), run(network, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_channel_whose_scale_is_zero_goes_and_its_layers_get_smaller() -> None:
    network = chain()
    network = _with(
        network,
        bn1__weight=_zeroed(network, "bn1.weight", [1, 4]),
        bn1__bias=_zeroed(network, "bn1.bias", [1, 4], -0.5),
    )

    found = remove_dead_channels(network)

    assert found.tensors["conv1.weight"].shape == (6, 3, 3, 3)
    assert found.tensors["bn1.running_mean"].shape == (6,)
    assert found.tensors["conv2.weight"].shape == (12, 6, 3, 3)
    _assert_equal(found, network)


def test_a_constant_that_is_not_zero_goes_into_the_next_bias() -> None:
    # Channel 1 of conv1 is 0.5 everywhere after the ReLU; conv2 is 1x1, so that no border sees fewer of it.
    net = Builder(3, 4, 4)
    value = net.op("relu", "relu", net.norm("bn", net.conv("conv1", "x", (3, 4)), 4))
    network = net.network(net.conv("conv2", value, (4, 2), kernel=1))
    network = _with(
        network, bn__weight=_zeroed(network, "bn.weight", [1]), bn__bias=_zeroed(network, "bn.bias", [1], 0.5)
    )

    found = remove_dead_channels(network)

    assert found.tensors["conv2.weight"].shape == (2, 3, 1, 1)
    share = 0.5 * network.tensors["conv2.weight"][:, 1, 0, 0]
    torch.testing.assert_close(found.tensors["conv2.bias"], network.tensors["conv2.bias"] + share)
    _assert_equal(found, network)


def test_a_layer_without_bias_gets_one_for_the_constant() -> None:
    net = Builder(3, 4, 4)
    value = net.norm("bn", net.conv("conv1", "x", (3, 4)), 4)
    network = net.network(net.conv("conv2", value, (4, 2), kernel=1, bias=False))
    network = _with(network, bn__weight=_zeroed(network, "bn.weight", [0]))

    found = remove_dead_channels(network)

    assert found.tensors["conv2.weight"].shape == (2, 3, 1, 1)
    _assert_equal(found, network)


def test_a_constant_in_front_of_padding_stays() -> None:
    # A 3x3 convolution with padding sees it less often at the border: no bias can do the same.
    network = chain()
    network = _with(
        network, bn1__weight=_zeroed(network, "bn1.weight", [2]), bn1__bias=_zeroed(network, "bn1.bias", [2], 0.5)
    )

    assert remove_dead_channels(network) is network


def test_a_channel_of_a_sum_goes_only_if_all_parts_of_it_are_dead() -> None:
    network = residual()
    one = _with(
        network, a__bn2__weight=_zeroed(network, "a.bn2.weight", [0]), a__bn2__bias=_zeroed(network, "a.bn2.bias", [0])
    )

    assert remove_dead_channels(one) is one

    both = _with(
        one,
        stem__bn__weight=_zeroed(one, "stem.bn.weight", [0]),
        stem__bn__bias=_zeroed(one, "stem.bn.bias", [0], -1.0),
        # channel 0 of the stem lies at place 2 of the padded shortcut
        b__bn2__weight=_zeroed(one, "b.bn2.weight", [2]),
        b__bn2__bias=_zeroed(one, "b.bn2.bias", [2], -1.0),
    )
    found = remove_dead_channels(both)

    assert found.graph.shapes["stem.relu"][1] == 3
    assert found.graph.shapes["b.relu2"][1] == 7
    _assert_equal(found, both)


def test_one_channel_stays_where_all_are_dead() -> None:
    network = chain()
    network = _with(
        network,
        bn1__weight=torch.zeros(8),
        bn1__bias=torch.full((8,), -1.0),
    )

    found = remove_dead_channels(network)

    assert found.tensors["conv1.weight"].shape[0] == 1
    _assert_equal(found, network)


def test_without_values_nothing_is_known_to_be_dead() -> None:
    network = chain().to_meta()

    assert remove_dead_channels(network) is network


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_removing_channels_changes_no_output(name: str, data: st.DataObject) -> None:
    network = NETWORKS[name]()
    tensors = dict(network.tensors)
    for group in candidate_groups(network).groups:
        dead = sorted(data.draw(st.sets(st.integers(0, group.channels - 1)), label=group.name))
        for member in group.tensors:  # filters, biases and statistics of the channel, as training leaves a dead one
            node = next((n for n in network.graph.nodes if member.name in n.parameters.values()), None)
            role = next((r for r, t in node.parameters.items() if t == member.name), "") if node else ""
            writes = member.axis == (1 if node is not None and node.op == "conv_transpose" else 0)
            if (
                node is None
                or role.startswith("running")
                or not writes
                or node.name not in (*group.layers, "bn1", "bn2")
            ):
                continue
            where, which = member.positions()
            changed = tensors[member.name].clone().movedim(member.axis, 0)
            changed[where[[channel in dead for channel in which]]] = 0.0
            tensors[member.name] = changed.movedim(0, member.axis).contiguous()
    network = replace(network, tensors=tensors)

    _assert_equal(remove_dead_channels(network), network)
