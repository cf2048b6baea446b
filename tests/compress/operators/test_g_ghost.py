import pytest
import torch

from compress.network.blocks import blocks
from compress.network.graph import Network
from compress.network.groups import ChannelGroups
from compress.network.stages import stages
from compress.operators import OPERATORS
from compress.plan import OperatorChoice, Plan
from compress.runner import run
from compress.structure import Structure, analyse, restructure
from hwmodels.errors import InputError
from tests.compress.networks import Builder, images
from tests.compress.operators.architectures import macs, parameters, regnet_x

STAGE = "a..d"


def stage(units: str = "abcd", *, groups: int = 1) -> Network:
    """Units of sixteen channels, the first of which changes shape."""
    net = Builder(3, 8, 8)
    value = net.op("stem.relu", "relu", net.conv("stem", "x", (3, 8)))
    for unit in units:
        first = unit == units[0]
        inner = net.conv(f"{unit}.conv1", value, (8 if first else 16, 16), stride=2 if first else 1)
        inner = net.conv(f"{unit}.conv2", net.op(f"{unit}.relu1", "relu", inner), (16, 16), groups=groups)
        around = net.conv(f"{unit}.match", value, (8, 16), kernel=1, stride=2) if first else value
        value = net.op(f"{unit}.relu2", "relu", net.op(f"{unit}.add", "add", inner, around))
    return net.network(net.head(value, 16))


def ghosted(network: Network, name: str = STAGE) -> Network:
    return restructure(network, Plan(operators={name: OperatorChoice(operator="g_ghost")}), structure=analyse(network))


def values(network: Network, *names: str) -> list[torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}
    run(network, images(network), lambda name, node, value: seen.setdefault(name, value))
    return [seen[name] for name in names]


def test_units_in_a_row_make_a_stage() -> None:
    found = analyse(stage()).stages

    assert [(row.name, row.entry, row.exit) for row in found] == [(STAGE, "stem.relu", "d.relu2")]
    assert Structure.from_json(analyse(stage()).to_json()) == analyse(stage())


def test_two_units_are_no_stage() -> None:
    assert analyse(stage("ab")).stages == ()


def test_the_middle_has_half_of_the_channels_and_the_ends_have_all() -> None:
    shapes = ghosted(stage()).graph.shapes

    widths = {name: shapes[name][1] for name in ("a.relu2", "b.relu2/raw", "c.relu2/raw", "c.relu2", "d.relu2")}
    assert widths == {"a.relu2": 16, "b.relu2/raw": 8, "c.relu2/raw": 8, "c.relu2": 16, "d.relu2": 16}
    assert shapes["d.relu2"] == stage().graph.shapes["d.relu2"]


def test_all_units_but_the_last_are_mixed() -> None:
    weight = ghosted(stage()).tensors["a.add/merge1.weight"]

    assert weight.shape == (8, 16 + 2 * 8, 1, 1)  # C + (n - 2) C_r, with four units


def test_the_narrow_path_takes_the_first_channels() -> None:
    whole, raw, rest = values(ghosted(stage()), "a.relu2", "a.add/raw", "a.add/rest")

    assert torch.equal(whole[:, :8], raw)
    assert torch.equal(whole[:, 8:], rest)


def test_without_a_mix_ghosts_do_not_depend_on_the_narrow_units() -> None:
    network = ghosted(stage())  # the last layer of the mix starts as zero
    other = {
        name: torch.randn_like(tensor) if name.startswith("b.conv1/raw") else tensor
        for name, tensor in network.tensors.items()
    }
    changed = Network(graph=network.graph, tensors=other)

    (first, narrow), (second, other_narrow) = (
        values(found, "a.add/ghosts", "b.relu2/raw") for found in (network, changed)
    )

    assert torch.equal(first, second)
    assert not torch.equal(narrow, other_narrow)
    (cheap,) = values(network, "a.add/cheap")
    torch.testing.assert_close(first, cheap.relu())


def test_with_a_mix_they_do() -> None:
    network = ghosted(stage())
    mixing = {**network.tensors, "a.add/merge2.weight": torch.ones(8, 8, 1, 1)}
    other = {**mixing, "b.conv2/raw.weight": torch.ones_like(mixing["b.conv2/raw.weight"])}

    (first,), (second,) = (
        values(Network(graph=network.graph, tensors=tensors), "a.add/ghosts") for tensors in (mixing, other)
    )

    assert not torch.equal(first, second)


def test_groups_get_three_quarters_of_their_width() -> None:
    # Groups of 4 become groups of 3, and half of 16 channels 6, the next multiple below 8.
    network = ghosted(stage(groups=4))

    assert network.tensors["b.conv2/raw.weight"].shape == (6, 3, 3, 3)
    assert network.graph.node("b.conv2/raw").attributes["groups"] == 2
    assert network.graph.shapes["a.add/rest"][1] == 10


def test_a_stage_and_a_unit_within_it_cannot_both_be_replaced() -> None:
    network = stage()
    plan = Plan(operators={STAGE: OperatorChoice(operator="g_ghost"), "b": OperatorChoice(operator="skip")})

    with pytest.raises(InputError, match="must not overlap"):
        restructure(network, plan, structure=analyse(network))


def test_a_single_unit_is_refused_with_the_reason() -> None:
    network = stage()

    reason = OPERATORS.get("g_ghost").fits(analyse(network).block("b"), network)

    assert reason == "b is no stage of several residual units"


@pytest.mark.parametrize(
    ("depths", "widths", "group_width", "million_parameters", "giga_macs"),
    [
        ((2, 6, 15, 2), (96, 192, 432, 1008), 48, 10.51, 1.802),
        ((2, 5, 14, 2), (80, 240, 560, 1360), 40, 15.73, 2.228),
        ((2, 5, 15, 1), (80, 240, 720, 1920), 120, 24.59, 4.150),
        ((2, 4, 10, 2), (72, 168, 408, 912), 24, 7.11, 1.021),
        ((1, 3, 7, 5), (64, 128, 288, 672), 16, 5.25, 0.529),
    ],
)
def test_g_ghost_regnets_have_the_papers_parameters_and_operations(
    depths: tuple[int, ...], widths: tuple[int, ...], group_width: int, million_parameters: float, giga_macs: float
) -> None:
    network = regnet_x(depths, widths, group_width)
    found = blocks(network)
    groups = ChannelGroups(groups=(), unprunable={})  # none is asked for
    structure = Structure(groups=groups, blocks=found, stages=stages(network, found))
    plan = Plan(operators={stage.name: OperatorChoice(operator="g_ghost") for stage in structure.stages})
    changed = restructure(network, plan, structure=structure)

    # Folded: a bias per channel, where the published counts have a scale and a shift.
    biases = sum(tensor.numel() for tensor in changed.tensors.values() if tensor.ndim == 1) - 1000
    assert (parameters(changed) + biases) / 1e6 == pytest.approx(million_parameters, rel=1e-3)
    assert macs(changed) / 1e9 == pytest.approx(giga_macs, rel=1e-3)
