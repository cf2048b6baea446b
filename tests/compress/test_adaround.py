import pytest
import torch
from torch import Tensor

from compress.adaround import adaround
from compress.plan import Numerics
from compress.quantizers import QUANTIZERS, Quantizer


def fitted(weight: Tensor, bits: int = 3) -> Quantizer:
    quantizer = QUANTIZERS.get("uniform")(bits, Numerics(weight_range="max"))
    quantizer.fit(weight)
    return quantizer


def problem(groups: int = 1) -> tuple[Tensor, Tensor]:
    """A weight, and the second moments of inputs that hang together."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 24, generator=generator)
    inputs = torch.randn(groups, 200, 24, generator=generator) @ torch.randn(24, 24, generator=generator)
    return weight, inputs.mT @ inputs / 200


def error(found: Tensor, weight: Tensor, moments: Tensor) -> Tensor:
    change = (found - weight).reshape(len(moments), -1, moments.shape[2])
    return ((change @ moments) * change).sum(-1).flatten()


@pytest.mark.parametrize("groups", [1, 4])
def test_the_output_changes_less_than_with_nearest_levels_in_every_channel(groups: int) -> None:
    weight, moments = problem(groups)
    quantizer = fitted(weight)
    nearest = quantizer(weight)

    found = adaround(weight, quantizer, quantizer.get_buffer("scale"), moments, other=nearest)

    assert torch.equal(quantizer(found), found)
    assert (error(found, weight, moments) <= error(nearest, weight, moments)).all()
    assert error(found, weight, moments).sum() < 0.5 * error(nearest, weight, moments).sum()


def test_weights_go_to_one_of_their_two_neighbours() -> None:
    weight, moments = problem()
    quantizer = fitted(weight)
    step = quantizer.get_buffer("scale")

    found = adaround(weight, quantizer, step, moments, other=quantizer(weight))

    assert ((found - weight).abs() <= step[:, None] * (1 + 1e-5)).all()


def test_a_better_rounding_is_taken_as_it_is() -> None:
    weight, moments = problem()
    quantizer = fitted(weight)
    exact = quantizer(weight)

    found = adaround(exact, quantizer, quantizer.get_buffer("scale"), moments, other=exact)

    assert torch.equal(found, exact)


def test_inputs_that_are_always_zero_are_no_reason_to_fail() -> None:
    weight, moments = problem()
    quantizer = fitted(weight)

    found = adaround(weight, quantizer, quantizer.get_buffer("scale"), torch.zeros_like(moments), other=weight)

    assert found.isfinite().all()
