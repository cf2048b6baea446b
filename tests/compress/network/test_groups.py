import json
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.network.build import run_shapes
from compress.network.cutting import Cutter
from compress.network.graph import Network, Node
from compress.network.groups import ChannelGroups, Span
from compress.runner import run
from compress.structure import channel_groups
from tests.compress.networks import NETWORKS, Builder, flattened, images, residual, shuffled


def _masked_values(network: Network, groups: ChannelGroups, kept: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Run the whole network with removed channels of every value set to zero; return what stays of each value."""
    cutter = Cutter(groups.groups)
    values: dict[str, Tensor] = {}

    def silence(name: str, node: Node | None, value: Tensor) -> Tensor:
        rest = value = value.clone()
        for axis in range(1, value.ndim):
            mask = cutter.value_mask(network.graph, name, axis, kept)
            if mask is not None:
                shape = [1] * value.ndim
                shape[axis] = -1
                value = value * torch.from_numpy(mask).reshape(shape)
                rest = rest.index_select(axis, torch.from_numpy(np.flatnonzero(mask)))
        values[name] = rest
        return value

    run(network, images(network), silence)
    return values


@cache
def _grouped(name: str) -> tuple[Network, ChannelGroups]:
    network = NETWORKS[name]()
    return network, channel_groups(network)


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_cutting_any_channels_equals_zeroing_them(name: str, data: st.DataObject) -> None:
    network, groups = _grouped(name)
    kept = {
        group.name: np.array(
            sorted(data.draw(st.sets(st.integers(0, group.channels - 1), min_size=1), label=group.name))
        )
        for group in groups.groups
    }
    found: dict[str, Tensor] = {}

    def remember(value: str, node: Node | None, tensor: Tensor) -> Tensor:
        found[value] = tensor
        return tensor

    cut = Cutter(groups.groups).cut(network, kept)
    outputs = run(cut, images(network), remember)

    expected = _masked_values(network, groups, kept)
    assert [tuple(output.shape[1:]) for output in outputs] == [
        tuple(network.graph.shapes[value][1:]) for value in network.graph.outputs
    ]
    for value, tensor in found.items():
        torch.testing.assert_close(tensor, expected[value], rtol=1e-4, atol=1e-5)
    assert dict(cut.graph.shapes) == dict(run_shapes(cut).shapes)


# Which layers can be cut at all: counted by hand from the networks' docstrings.
_PRUNABLE = {
    "chain": {"conv1", "conv2"},
    "flattened": {"conv1", "fc1"},
    "residual": {"stem.conv", "a.conv1", "a.conv2", "b.conv1", "b.conv2"},
    "projected": {"stem.conv", "a.conv1", "a.conv2", "b.conv1", "b.conv2", "b.conv3"},
    "dense": {"conv1", "conv2", "conv3"},
    "inverted": {"expand", "se.reduce", "se.expand", "project"},
    "grouped": {"conv1", "conv2", "up"},
    "shuffled": {"conv1", "conv2", "conv3", "conv4"},
    "sliced": {"conv1", "conv2", "conv3"},
    "upscaled": {"conv1", "conv2", "conv3", "conv4", "conv5", "conv6"},
    "attentive": {"embed", "qkv", "proj"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_but_the_last_can_be_cut(name: str) -> None:
    network = NETWORKS[name]()

    groups = channel_groups(network)

    assert {layer for group in groups.groups for layer in group.layers} == _PRUNABLE[name]
    (last,) = groups.unprunable
    assert "network's output" in groups.unprunable[last]


def test_groups_survive_json() -> None:
    groups = channel_groups(shuffled())

    assert ChannelGroups.from_json(json.loads(json.dumps(groups.to_json()))) == groups


def test_a_flattened_channel_is_as_many_features_as_it_has_pixels() -> None:
    groups = channel_groups(flattened())

    (member,) = (m for m in groups.group("conv1").tensors if m.name == "fc1.weight")

    assert (member.axis, member.per_channel, member.spans) == (1, 16, (Span(0, 0, 6, 16),))


def test_zero_padded_channels_of_a_shortcut_keep_their_offset() -> None:
    # Four channels are padded by two zeros on both sides: channel i meets channel i + 2 of the second unit, and its
    # channels 0, 1, 6, 7, which meet only zeros, are a group of their own.
    groups = channel_groups(residual())

    stream, alone = groups.group("stem.conv"), groups.group("b.conv2")

    assert stream.layers == ("stem.conv", "a.conv2", "b.conv2")
    (member,) = (m for m in stream.tensors if m.name == "b.conv2.weight" and m.axis == 0)
    assert member.spans == (Span(2, 0, 4),)
    (member,) = (m for m in alone.tensors if m.name == "b.conv2.weight" and m.axis == 0)
    assert member.spans == (Span(0, 0, 2), Span(6, 2, 2))


def test_an_operator_that_mixes_channels_names_the_reason() -> None:
    net = Builder(3, 4, 4)
    value = net.op("softmax", "softmax", net.conv("conv1", "x", (3, 6)), dim=1)
    network = net.network(net.head(value, 6))

    groups = channel_groups(network)

    assert groups.groups == ()
    assert groups.unprunable["conv1"] == "softmax (softmax) runs over these channels"


def test_channels_added_to_the_input_stay() -> None:
    net = Builder(3, 4, 4)
    network = net.network(net.head(net.op("add", "add", net.conv("conv1", "x", (3, 3)), "x"), 3))

    groups = channel_groups(network)

    assert "add (add) meets a value whose channels stay" in groups.unprunable["conv1"]


def test_a_weight_shared_with_a_layer_that_reads_the_input_stays() -> None:
    net = Builder(4, 4, 4)
    first = net.conv("conv1", "x", (4, 4))
    second = net.conv("conv2", net.op("relu1", "relu", first), (4, 4))
    net.nodes[-1] = Node(
        name="conv2",
        op="conv",
        inputs=("relu1",),
        outputs=("conv2",),
        attributes=net.nodes[-1].attributes,
        parameters=net.nodes[0].parameters,
    )
    network = net.network(net.head(second, 4)).used()

    groups = channel_groups(network)

    # The weight's input axis is the network's input, whose channels stay; its outputs are conv2's inputs, so they stay.
    assert groups.groups == ()
    assert groups.unprunable["conv1"] == "'conv1.weight' is shared with a layer whose channels stay"
