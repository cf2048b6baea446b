"""The contract of ``Method``, for every registered one."""

import pytest
import torch
from torch import Tensor

from compress.finetune.methods import METHODS
from compress.network.graph import Node
from compress.network.ops import make_node
from compress.network.ops.elementwise import quantize
from compress.plan import Numerics
from compress.weights import CodedWeight, WeightFormat, encode

SHAPES = {"convolution": (6, 3, 3, 3), "depthwise": (5, 1, 3, 3), "linear": (4, 9), "one channel": (1, 2, 1, 1)}
GRIDS = {
    "unsigned": make_node("q", "quantize", ["x"], scale=0.2, zero_point=0, low=0, high=15),
    "with zero inside": make_node("q", "quantize", ["x"], scale=0.2, zero_point=6, low=0, high=15),
    "signed": make_node("q", "quantize", ["x"], scale=0.02, zero_point=0, low=-128, high=127),
}


def weight_of(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.1


def coded(weight: Tensor, bits: int, numerics: Numerics) -> CodedWeight:
    return encode(weight, WeightFormat(quantizer="uniform", bits=bits), numerics)


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_what_is_stored_is_what_was_trained_with(name: str, bits: int, shape: tuple[int, ...]) -> None:
    numerics, weight = Numerics(), weight_of(shape)
    grid = METHODS.get(name)().weight(weight, coded(weight, bits, numerics), numerics)

    stored = grid.coded()

    assert stored.format == WeightFormat(quantizer="uniform", bits=bits)
    assert int(stored.codes.values.max()) < 2**bits
    torch.testing.assert_close(stored.decode(numerics), grid().detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("bits", [1, 2, 8])
def test_every_weight_and_grid_parameter_gets_a_finite_gradient(name: str, bits: int) -> None:
    numerics, weight = Numerics(), weight_of((4, 3, 3, 3))
    weight[1] = 0.0
    grid = METHODS.get(name)().weight(weight, coded(weight, bits, numerics), numerics)

    torch.autograd.backward(grid().square().sum())

    for parameter in grid.parameters():
        assert parameter.grad is not None
        assert bool(torch.isfinite(parameter.grad).all())


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize(
    "numerics", [Numerics(weight_granularity="tensor"), Numerics(scale_format="power_of_two")], ids=["tensor", "power"]
)
def test_other_scales_are_kept(name: str, numerics: Numerics) -> None:
    weight = weight_of((4, 3, 3, 3))
    grid = METHODS.get(name)().weight(weight, coded(weight, 4, numerics), numerics)

    scale = grid.coded().codes.parameters["scale"]

    assert scale.shape == coded(weight, 4, numerics).codes.parameters["scale"].shape
    if numerics.scale_format == "power_of_two":
        assert torch.equal(scale.log2(), scale.log2().round())
    torch.testing.assert_close(grid.coded().decode(numerics), grid().detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("node", GRIDS.values(), ids=GRIDS.keys())
def test_activations_are_rounded_as_the_deployed_node_does(name: str, node: Node) -> None:
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    grid = METHODS.get(name)().activation(node, Numerics())

    attributes = grid.attributes()

    torch.testing.assert_close(grid(x), quantize(x, **attributes))  # type: ignore[arg-type]


def test_lsq_plus_learns_where_zero_lies_and_lsq_does_not() -> None:
    learns = {
        (name, kind): METHODS.get(name)().activation(node, Numerics()).get_parameter("zero_point").requires_grad
        for name in ("lsq", "lsq_plus")
        for kind, node in GRIDS.items()
    }

    assert {key for key, learned in learns.items() if learned} == {("lsq_plus", "with zero inside")}


def test_pact_is_drawn_towards_smaller_bounds() -> None:
    grid = METHODS.get("pact")().activation(GRIDS["unsigned"], Numerics())

    penalty = grid.penalty()

    assert penalty is not None
    torch.autograd.backward(penalty)
    gradient = grid.get_parameter("log_step").grad
    assert gradient is not None
    assert float(gradient) > 0


def test_dorefa_keeps_the_weight_inside_its_grid_and_its_magnitude() -> None:
    numerics, weight = Numerics(), weight_of((8, 16, 3, 3))
    grid = METHODS.get("dorefa")().weight(weight, coded(weight, 8, numerics), numerics)

    values = grid().detach()

    correlation = torch.corrcoef(torch.stack([values.flatten(), weight.flatten()]))[0, 1]
    assert float(correlation) > 0.9
    assert float(values.norm() / weight.norm()) == pytest.approx(1.0, abs=0.1)
