import pytest
import torch
from torch import Tensor

from compress.apply import apply, prepare
from compress.network.graph import Node
from compress.network.ops import OPS
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan
from compress.quantizers import QUANTIZERS, Quantizer
from compress.rounding import compensated, second_moments
from compress.structure import analyse
from hwmodels.errors import UnknownNameError
from tests.compress.networks import NETWORKS, Builder, images


def correlated_images(channels: int, size: int, count: int = 16) -> Tensor:
    """Neighbouring pixels and channels alike, as after a rectifier in a real network."""
    noise = torch.randn(count, channels, size + 2, size + 2, generator=torch.Generator().manual_seed(3))
    shared = noise.mean(1, keepdim=True) * channels**0.5
    return torch.nn.functional.avg_pool2d(noise + 2 * shared, 3, 1).relu()


def layer(kind: str) -> tuple[Node, Tensor]:
    net = Builder(8, 6, 6)
    if kind == "linear":
        name = net.linear("layer", "x", (6, 10))
    else:
        groups = {"convolution": 1, "grouped": 2, "depthwise": 8}[kind]
        name = net.conv("layer", "x", (8, 16), groups=groups, stride=2)
    return net.nodes[-1], net.tensors[f"{name}.weight"]


def fitted(weight: Tensor) -> Quantizer:
    quantizer = QUANTIZERS.get("uniform")(3)
    quantizer.fit(weight)
    return quantizer


@pytest.mark.parametrize("kind", ["convolution", "grouped", "depthwise", "linear"])
def test_the_layers_output_changes_less_than_with_nearest_rounding(kind: str) -> None:
    node, weight = layer(kind)
    x = correlated_images(8, 6)
    quantizer = fitted(weight)

    rounded = compensated(weight, quantizer, second_moments(node, weight, x))

    def output_error(other: Tensor) -> float:
        return float(OPS[node.op].run(x, weight=other - weight, **node.attributes).square().mean())

    assert torch.equal(quantizer(rounded), rounded)
    assert output_error(rounded) < 0.8 * output_error(quantizer(weight))


def test_inputs_that_have_nothing_in_common_leave_the_nearest_level() -> None:
    node, weight = layer("linear")
    x = 5 * torch.eye(6)  # second moments are a multiple of the identity: there is nothing to compensate with

    rounded = compensated(weight, fitted(weight), second_moments(node, weight, x))

    assert torch.equal(rounded, fitted(weight)(weight))


def test_inputs_that_are_always_zero_are_survived() -> None:
    node, weight = layer("convolution")

    assert compensated(weight, fitted(weight), second_moments(node, weight, torch.zeros(4, 8, 6, 6))).isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_rounded_so_and_its_codes_stay_in_step(name: str) -> None:
    network = NETWORKS[name]()
    bits = LayerBits(weight_bits=3, activation_bits=8)
    layers = {node.name: bits for node in network.graph.nodes if node.op in LAYER_OPS}
    plan = Plan(layers=layers, numerics=Numerics(weight_rounding="compensated"))

    compressed = apply(prepare(network, images(network, 8), structure=analyse(network)), plan)

    for tensor, coded in compressed.coded.items():
        assert torch.equal(coded.decode(plan.numerics), compressed.network.tensors[tensor])


def test_an_unknown_rounding_is_answered_with_the_known_ones() -> None:
    network = NETWORKS["chain"]()
    base = prepare(network, images(network), structure=analyse(network))

    with pytest.raises(UnknownNameError, match="nearest, compensated"):
        apply(base, Plan(numerics=Numerics(weight_rounding="magic")))
