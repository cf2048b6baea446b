from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch

from compress.apply import apply, prepare
from compress.export import onnx_bytes
from compress.network.graph import Network
from compress.plan import LayerBits, OperatorChoice, Plan
from compress.runner import run
from compress.structure import analyse, restructure, restructured
from tests.compress.networks import Builder, images, residual
from tests.compress.operators.architectures import (
    ghosted,
    ghostnet,
    macs,
    parameters,
    resnet50,
    resnet56,
    vgg16,
)


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, bias: bool = True) -> Network:
    net = Builder(inputs, 9, 9)
    return net.network(net.conv("conv", "x", (inputs, outputs), kernel=kernel, stride=stride, bias=bias))


def _values(network: Network, *names: str) -> list[torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}
    run(network, images(network), lambda name, node, value: seen.setdefault(name, value))
    return [seen[name] for name in names]


@pytest.mark.parametrize("outputs", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_number_of_channels_comes_out_at_the_same_size(outputs: int, ratio: int, stride: int) -> None:
    network = _convolution(3, outputs, stride=stride)

    (output,) = run(ghosted(network, lambda node: True, ratio=ratio), images(network))

    assert output.shape == run(network, images(network))[0].shape


def test_without_ghosts_it_is_the_convolution() -> None:
    network = _convolution(3, 6)

    (output,) = run(ghosted(network, lambda node: True, ratio=1), images(network))

    torch.testing.assert_close(output, run(network, images(network))[0])


def test_the_first_channels_are_the_primary_ones() -> None:
    network = _convolution(3, 7)  # 4 primary ones, 4 ghosts of which the last is dropped

    output, primary, cheap = _values(ghosted(network, lambda node: True), "conv", "conv/primary", "conv/cheap")

    assert torch.equal(output[:, :4], primary)
    assert torch.equal(output[:, 4:], cheap[:, :3])


def test_kernels_with_only_a_middle_repeat_the_primary_channels_in_order() -> None:
    network = _convolution(2, 6, bias=False)
    ghost = ghosted(network, lambda node: True, ratio=3)
    middle = torch.zeros_like(ghost.tensors["conv/cheap.weight"])
    middle[:, :, 1, 1] = 1.0
    ghost = Network(graph=ghost.graph, tensors={**ghost.tensors, "conv/cheap.weight": middle})

    primary, cheap = _values(ghost, "conv/primary", "conv/cheap")

    torch.testing.assert_close(cheap, primary.repeat_interleave(2, dim=1))


@pytest.mark.parametrize("stride", [1, 2])
def test_filters_that_are_shifted_sums_of_others_are_found_again(stride: int) -> None:
    # Only the inner 1×1 of the primary filters is used, so a 3×3 kernel behind them is a 3×3 filter of the same size.
    network = _convolution(3, 4, stride=1)
    weight = torch.zeros(4, 3, 3, 3)
    generator = torch.Generator().manual_seed(3)
    mix, kernels = torch.randn(2, 3, generator=generator), torch.randn(2, 3, 3, generator=generator)
    weight[:2, :, 1, 1] = mix
    weight[2:] = mix[:, :, None, None] * kernels[:, None]
    network = Network(graph=network.graph, tensors={**network.tensors, "conv.weight": weight})

    dense, ghost = (run(made, images(network))[0] for made in (network, ghosted(network, lambda node: True)))

    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # kernels see zeros beyond the border twice
    error = (dense - ghost)[inside].norm() / dense[inside].norm()
    assert float(error) < 0.05


def test_a_dead_filter_does_not_make_its_ghosts_kernel_explode() -> None:
    network = _convolution(3, 4)
    weight = network.tensors["conv.weight"].clone()
    weight[0] = 1e-9
    network = Network(graph=network.graph, tensors={**network.tensors, "conv.weight": weight})

    cheap = ghosted(network, lambda node: True).tensors["conv/cheap.weight"]

    assert float(cheap.abs().max()) < 10


def test_a_silent_last_layer_leaves_the_shortcut() -> None:
    network = residual()
    silent = {**network.tensors, **{name: torch.zeros(4) for name in ("a.bn2.weight", "a.bn2.bias")}}
    plans = (Plan(operators={"a": OperatorChoice(operator=name)}) for name in ("c_ghost", "skip"))
    quiet = Network(graph=network.graph, tensors=silent)

    ghost, skipped = (run(restructure(quiet, plan, structure=analyse(quiet)), images(quiet))[0] for plan in plans)

    torch.testing.assert_close(ghost, skipped, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ratio", [2, 4])
def test_a_primary_channel_goes_with_its_ghosts_and_the_others_stay_as_they_were(ratio: int) -> None:
    network = residual(projected=True)
    structure = analyse(network)
    ghost = {"b": OperatorChoice(operator="c_ghost", parameters={"ratio": ratio})}
    plan = Plan(operators=ghost, keep_ratios={"b.conv1": 0.5})
    scores = {"b.conv1": torch.tensor([0.0, 3.0, 1.0, 2.0, 9.0, 5.0, 0.5, 0.0], dtype=torch.float64)}

    whole = restructure(network, Plan(operators=ghost), structure=structure)
    result = restructured(network, plan, structure=structure, scores=scores)
    on_meta = restructure(network.to_meta(), plan, structure=structure)

    # Ratio 2: pairs 0-4, 1-5, 2-6, 3-7 score 9, 8, 1.5, 2. Ratio 4: 0-2-3-4 score 12, 1-5-6-7 8.5.
    kept = [0, 1, 4, 5] if ratio == 2 else [0, 2, 3, 4]
    assert result.kept["b.conv1"].tolist() == kept
    (before,), (after,) = _values(whole, "b.bn1"), _values(result.network, "b.bn1")
    torch.testing.assert_close(after, before[:, kept])
    assert tuple(result.network.tensors["b.conv1/primary.weight"].shape) == (4 // ratio, 4, 3, 3)
    assert {name: tuple(tensor.shape) for name, tensor in on_meta.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in result.network.tensors.items()
    }
    assert on_meta.graph.shapes == result.network.graph.shapes


def test_a_cut_network_with_ghosts_runs_with_bits_as_its_file_does_in_another_runtime() -> None:
    network = residual(projected=True)
    prepared = prepare(network, images(network, 16), structure=analyse(network))
    bits = LayerBits(weight_bits=8, activation_bits=8)
    plan = Plan(
        operators={"b": OperatorChoice(operator="c_ghost")},
        keep_ratios={group.name: 0.5 for group in prepared.structure.groups.groups},
        layers=dict.fromkeys(("stem.conv", "a.conv1", "b.conv1/primary", "b.conv1/cheap"), bits),
        repair="least_squares",
    )

    compressed = apply(prepared, plan)

    x = images(network, 4, seed=4)
    session = onnxruntime.InferenceSession(onnx_bytes(compressed), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.numpy()})
    (wanted,) = run(compressed.network, x)
    assert np.abs(found - wanted.numpy()).mean() < 0.03 * np.abs(wanted.numpy()).mean()


def test_channels_that_others_write_too_or_that_are_no_whole_pairs_are_not_cut() -> None:
    network = residual()
    structure = analyse(network)
    ratios = {group.name: 0.5 for group in structure.groups.groups}
    plan = Plan(operators={"a": OperatorChoice(operator="c_ghost")}, keep_ratios=ratios)

    changed = restructure(network, plan, structure=structure)

    assert changed.graph.shapes["a.bn1"][1] == 6  # half of three pairs
    assert changed.graph.shapes["a.bn2"][1] == 4  # the stem writes these, too
    assert changed.graph.shapes["b.relu1"][1] == 4  # block b is as it was: half of 8


def test_ghostnet_has_the_papers_parameters_and_operations() -> None:
    network = ghosted(ghostnet(), lambda node: ".ghost" in node.name)

    assert parameters(network) == 5_182_508
    assert macs(network) == pytest.approx(141.2e6, rel=5e-4)


@pytest.mark.parametrize(
    ("multiplier", "million_parameters", "million_macs"), [(0.5, 2.587, 42.3), (1.3, 7.359, 227.0)]
)
def test_narrower_and_wider_ghostnets_have_theirs(
    multiplier: float, million_parameters: float, million_macs: float
) -> None:
    network = ghosted(ghostnet(multiplier), lambda node: ".ghost" in node.name)

    assert parameters(network) / 1e6 == pytest.approx(million_parameters, rel=5e-4)
    assert macs(network) / 1e6 == pytest.approx(million_macs, rel=1e-3)


@pytest.mark.parametrize(
    ("build", "million_parameters", "million_macs", "tolerance"),
    [
        (vgg16, 7.7, 158, 0.05),
        (resnet56, 0.43, 63, 0.05),
        (resnet50, 13.0, 2200, 0.10),
    ],
)
def test_ghost_networks_are_as_large_as_in_the_papers_tables(
    build: Callable[[], Network], million_parameters: float, million_macs: float, tolerance: float
) -> None:
    """The tables' rows are recalled, and do not say which layers stay dense: here all convolutions have ghosts."""
    network = ghosted(build(), lambda node: True)

    assert parameters(network) / 1e6 == pytest.approx(million_parameters, rel=tolerance)
    assert macs(network) / 1e6 == pytest.approx(million_macs, rel=tolerance)
