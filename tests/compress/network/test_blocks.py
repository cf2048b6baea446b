import json

from compress.network.blocks import Block, blocks
from tests.compress.networks import Builder, attentive, chain, dense, projected, residual


def test_residual_units_are_found_with_their_entry_exit_and_shortcut() -> None:
    first, second = blocks(residual())

    assert (first.name, first.entry, first.exit) == ("a", "stem.relu", "a.relu2")
    assert first.nodes == ("a.conv1", "a.bn1", "a.relu1", "a.conv2", "a.bn2", "a.add", "a.relu2")
    assert first.residual
    assert first.identity_shortcut
    assert (second.name, second.entry, second.exit) == ("b", "a.relu2", "b.relu2")
    assert second.shortcut == "b.pad"
    assert not second.identity_shortcut


def test_the_cheaper_branch_is_the_shortcut_whichever_operand_it_is() -> None:
    _, second = blocks(projected())

    assert second.shortcut == "b.bn3"  # 4 * 8 weights beside 8 * 9 * 4 + 8 * 9 * 8


def test_networks_without_additions_have_no_residual_units() -> None:
    assert blocks(chain()) == ()
    assert blocks(dense()) == ()


def test_attention_with_its_shortcut_is_a_unit() -> None:
    (block,) = blocks(attentive())

    assert (block.entry, block.exit) == ("embed", "add")
    assert block.identity_shortcut


def test_a_unit_whose_inside_is_read_elsewhere_is_none() -> None:
    net = Builder(3, 4, 4)
    stem = net.conv("stem", "x", (3, 4))
    inside = net.op("relu", "relu", net.conv("conv1", stem, (4, 4)))
    summed = net.op("add", "add", net.conv("conv2", inside, (4, 4)), stem)
    network = net.network(net.head(summed, 4), inside)

    assert blocks(network) == ()


def test_of_nested_units_the_inner_ones_are_listed() -> None:
    net = Builder(3, 4, 4)
    stem = net.conv("stem", "x", (3, 4))
    inner = net.op("inner.add", "add", net.conv("inner.conv", stem, (4, 4)), stem)
    outer = net.op("outer.add", "add", net.conv("outer.conv", inner, (4, 4)), stem)
    network = net.network(net.head(outer, 4))

    (block,) = blocks(network)

    assert block.nodes == ("inner.conv", "inner.add")


def test_adding_a_value_to_itself_is_no_unit() -> None:
    net = Builder(3, 4, 4)
    stem = net.conv("stem", "x", (3, 4))

    assert blocks(net.network(net.head(net.op("twice", "add", stem, stem), 4))) == ()


def test_blocks_survive_json() -> None:
    found = blocks(residual())

    assert tuple(Block.from_json(json.loads(json.dumps(block.to_json()))) for block in found) == found
