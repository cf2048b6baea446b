import torch

from compress.network.graph import Network
from compress.operators import OPERATORS
from compress.plan import OperatorChoice, Plan
from compress.runner import run
from compress.structure import analyse, restructure
from tests.compress.networks import Builder, images, projected, residual


def _skip(network: Network, *blocks: str) -> Network:
    operators = {block: OperatorChoice(operator="skip") for block in blocks}
    return restructure(network, Plan(operators=operators), structure=analyse(network))


def test_an_identity_unit_behind_a_relu_vanishes() -> None:
    skipped = _skip(residual(), "a")

    assert not [node.name for node in skipped.graph.nodes if node.name.startswith("a.")]
    assert skipped.graph.node("b.conv1").inputs == ("stem.relu",)


def test_a_unit_equals_its_shortcut_when_its_main_path_gives_zero() -> None:
    for network in (residual(), projected()):
        silent = {**network.tensors}
        for tensor in ("a.bn2.weight", "a.bn2.bias", "b.bn2.weight", "b.bn2.bias"):
            silent[tensor] = torch.zeros_like(silent[tensor])
        quiet = Network(graph=network.graph, tensors=silent)

        skipped = _skip(quiet, "a", "b")

        torch.testing.assert_close(
            run(skipped, images(network))[0], run(quiet, images(network))[0], rtol=1e-5, atol=1e-5
        )


def test_the_activation_stays_where_the_entry_can_be_negative() -> None:
    net = Builder(3, 4, 4)
    stem = net.conv("stem", "x", (3, 4))
    value = net.op("a.relu", "relu", net.op("a.add", "add", net.conv("a.conv", stem, (4, 4)), stem))
    network = net.network(net.head(value, 4))

    skipped = _skip(network, "a")

    assert [node.name for node in skipped.graph.nodes if node.name.startswith("a.")] == ["a.relu"]
    assert skipped.graph.node("a.relu").inputs == ("stem",)


def test_units_in_a_row_without_activation_vanish() -> None:
    net = Builder(3, 4, 4)
    stem = net.conv("stem", "x", (3, 4))
    first = net.op("a.add", "add", net.conv("a.conv", stem, (4, 4)), stem)
    second = net.op("b.add", "add", net.conv("b.conv", first, (4, 4)), first)
    network = net.network(net.head(second, 4))

    skipped = _skip(network, "a", "b")

    assert [node.name for node in skipped.graph.nodes] == ["stem", "pool", "flatten", "head"]
    assert skipped.graph.node("pool").inputs == ("stem",)


def test_a_unit_that_writes_the_output_cannot_vanish() -> None:
    net = Builder(3, 4, 4)
    stem = net.conv("stem", "x", (3, 4))
    network = net.network(net.op("a.add", "add", net.conv("a.conv", stem, (4, 4)), stem))
    (block,) = analyse(network).blocks

    assert OPERATORS.get("skip").fits(block, network) == "a writes the network's output"
