import pytest
import torch

from compress.apply import apply
from compress.data_free import PEAK_RANGES, ImageGeneration, generate, prepare_data_free
from compress.evaluate import logits
from compress.network.build import build_module
from compress.network.graph import Network
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Plan
from compress.rewrites import fold_batch_norm
from compress.structure import analyse
from hwmodels.errors import InputError
from tests.compress.networks import Builder, chain, residual

FEW = ImageGeneration(typical=24, extreme=6, steps=18, batch_size=32)


def plan_of(network: Network, bits: int) -> Plan:
    width = LayerBits(weight_bits=bits, activation_bits=8)
    layers = {node.name: width for node in network.graph.nodes if node.op in LAYER_OPS}
    return Plan(layers=layers, numerics=PEAK_RANGES)


def test_typical_images_come_to_match_the_statistics_and_extreme_ones_to_respond() -> None:
    made = generate(chain(), FEW)

    assert made.typical.shape == (24, 3, 8, 8)
    assert made.extreme.shape == (6, 3, 8, 8)
    assert made.typical_losses[-1] < 0.5 * made.typical_losses[0]
    thirds = [sum(made.extreme_losses[start : start + 6]) for start in (0, 6, 12)]
    assert thirds == sorted(thirds, reverse=True)


def test_extreme_images_reach_further_than_noise_and_stay_within_bounds() -> None:
    network = residual()
    low, high = FEW.bounds
    made = generate(network, FEW)
    noise = torch.randn(made.extreme.shape, generator=torch.Generator().manual_seed(0)).clamp(low, high)

    module = build_module(network)

    assert float(made.extreme.min()) >= low - 1e-6  # bounds are float64
    assert float(made.extreme.max()) <= high + 1e-6
    assert float(logits(module, made.extreme).max()) > 2 * float(logits(module, noise).max())


def test_making_images_changes_nothing_of_the_network() -> None:
    network = residual()
    before = {name: tensor.clone() for name, tensor in network.tensors.items()}

    generate(network, FEW)

    assert all(torch.equal(tensor, before[name]) for name, tensor in network.tensors.items())
    assert all(tensor.grad is None for tensor in network.tensors.values())


def test_equal_seeds_make_equal_images() -> None:
    first, second = generate(chain(), FEW), generate(chain(), FEW)

    assert torch.equal(first.typical, second.typical)
    assert torch.equal(first.extreme, second.extreme)


def test_ranges_hold_the_peaks_of_the_extreme_images() -> None:
    network = chain()
    made = generate(network, FEW)
    prepared = prepare_data_free(network, structure=analyse(network), images=made)

    histograms = prepared.histograms()

    values = build_module(fold_batch_norm(network))(made.extreme)
    assert histograms[network.graph.outputs[0]].maximum >= float(values.detach().max())


def test_eight_bits_without_data_hardly_change_the_output() -> None:
    network = residual()
    prepared = prepare_data_free(network, structure=analyse(network), options=FEW)
    x = torch.randn(16, *network.graph.shapes[network.graph.inputs[0]][1:], generator=torch.Generator().manual_seed(3))

    compressed = apply(prepared, plan_of(network, 8))

    wanted = logits(build_module(network), x)
    found = logits(build_module(compressed.network), x)
    assert float((found - wanted).norm() / wanted.norm()) < 0.1


def test_a_network_whose_batch_norms_are_folded_is_refused_with_the_reason() -> None:
    network = fold_batch_norm(residual())

    with pytest.raises(InputError, match="must still have its batch norms"):
        prepare_data_free(network, structure=analyse(network))


def test_a_network_without_class_scores_is_refused() -> None:
    net = Builder(3, 8, 8)
    network = net.network(net.norm("bn", net.conv("conv", "x", (3, 4)), 4))

    with pytest.raises(InputError, match="class scores"):
        generate(network, FEW)
