import pytest
import torch

from compress.network.graph import Network
from compress.operators import OPERATORS, mgic
from compress.operators.mgic import Level, levels
from compress.plan import OperatorChoice, Plan
from compress.runner import run
from compress.structure import analyse, restructure
from compress.workload import workload
from tests.compress.networks import Builder, images


def unit(width: int, *, image: int = 5) -> Network:
    """A residual unit of two convolutions behind a projection."""
    net = Builder(3, image, image)
    entry = net.op("stem.relu", "relu", net.conv("stem", "x", (3, width), kernel=1))
    inner = net.op("a.relu1", "relu", net.conv("a.conv1", entry, (width, width)))
    inner = net.conv("a.conv2", inner, (width, width))
    return net.network(net.head(net.op("a.relu2", "relu", net.op("a.add", "add", inner, entry)), width))


def cycle(network: Network, size: int) -> Network:
    choice = OperatorChoice(operator="mgic", parameters={"group_size": size})
    return restructure(network, Plan(operators={"a": choice}), structure=analyse(network))


def _parameters(width: int, size: int, coarsest: int) -> int:
    """Count weights of the unit and its cycle's, and two values per channel for each batch norm that was folded."""
    network = unit(width).to_meta()
    block = analyse(network).block("a")
    made = mgic._Cycle(block, network, levels(width, group_size=size, coarsest=coarsest)).replacement()
    return sum(
        2 * tensor.numel() if name.endswith(".bias") else tensor.numel() for name, tensor in made.tensors.items()
    )


@pytest.mark.parametrize(
    ("width", "size", "coarsest", "expected"),
    [
        (64, 16, 32, 34_432),
        (128, 16, 32, 74_112),
        (256, 16, 32, 153_472),
        (512, 16, 32, 312_192),
        (256, 32, 64, 293_632),
        (512, 64, 64, 1_191_680),
    ],
)
def test_a_unit_has_as_many_parameters_as_published_code_gives_it(
    width: int, size: int, coarsest: int, expected: int
) -> None:
    assert _parameters(width, size, coarsest) == expected


@pytest.mark.parametrize("size", [4, 8])
def test_every_weight_is_multiplied_once_per_pixel_whatever_the_level(size: int) -> None:
    network = unit(64).to_meta()
    dense, changed = workload(network, Plan()).macs, workload(cycle(network, size), Plan()).macs

    made = cycle(network, size).tensors
    weights = sum(tensor.numel() for name, tensor in made.items() if name.startswith("a.") and tensor.ndim == 4)
    height, width = next(shape[2:] for name, shape in network.graph.shapes.items() if name.startswith("a."))
    assert dense - changed == (2 * 9 * 64**2 - weights) * height * width


def test_parameters_grow_linearly_with_the_width() -> None:
    # P(2n) - P(n) = (19 s + 6) * 2n
    assert _parameters(256, 16, 32) - _parameters(128, 16, 32) == (19 * 16 + 6) * 256


def test_a_width_whose_half_is_below_the_threshold_has_two_levels() -> None:
    assert levels(16, group_size=8, coarsest=16) == [Level(width=16, groups=2), Level(width=8, groups=1)]


def test_every_channel_reaches_every_other() -> None:
    network = cycle(unit(16), 4)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.rand(tensor.shape, generator=generator) if "/" in name else tensor
        for name, tensor in network.tensors.items()
    }
    generic = Network(graph=network.graph, tensors=tensors)
    nodes = [node for node in generic.graph.nodes if "/" in node.name]
    part = Network(
        graph=type(generic.graph)(
            nodes=tuple(nodes), inputs=("stem.relu",), outputs=("a.relu2",), shapes=generic.graph.shapes
        ),
        tensors=tensors,
    )
    base = torch.ones(1, 16, 5, 5)
    (before,) = run(part, base)

    for channel in range(16):
        changed = base.clone()
        changed[:, channel] += 0.5
        (after,) = run(part, changed)
        assert bool(((after - before).abs().amax((0, 2, 3)) > 0).all()), channel


def test_without_prolongation_only_the_finest_level_is_left() -> None:
    network = unit(16)
    made = cycle(network, 4)
    tensors = {
        name: torch.zeros_like(tensor) if "/prolong" in name else tensor for name, tensor in made.tensors.items()
    }
    silent = Network(graph=made.graph, tensors=tensors)
    grouped = dict(network.tensors)
    for name in ("a.conv1.weight", "a.conv2.weight"):
        mask = torch.block_diag(*(torch.ones(4, 4) for _ in range(4)))  # type: ignore[no-untyped-call]
        grouped[name] = network.tensors[name] * mask[:, :, None, None]

    (found,) = run(silent, images(network))

    (expected,) = run(Network(graph=network.graph, tensors=grouped), images(network))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_coarser_levels_that_change_nothing_correct_nothing() -> None:
    network = unit(16)
    quiet = {
        name: torch.zeros_like(tensor) if name.startswith("a.") else tensor for name, tensor in network.tensors.items()
    }
    network = Network(graph=network.graph, tensors=quiet)  # units are relu(0 + x) = x on what a relu has written
    seen: dict[str, torch.Tensor] = {}

    run(cycle(network, 4), images(network), lambda name, node, value: seen.setdefault(name, value))

    assert [name for name in seen if "/change" in name] == ["a.add/change2", "a.add/change1"]
    assert all(float(seen[name].abs().max()) < 1e-6 for name in seen if "/change" in name)


def test_a_group_size_that_saves_nothing_does_not_fit() -> None:
    network = unit(8)

    reason = OPERATORS.get("mgic").fits(analyse(network).block("a"), network)

    # groups of 8: 18 * 8 * 8 dense ones, and then the level below
    assert reason == "a is too narrow: groups of 8 would need more weights"
