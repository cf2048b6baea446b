import pytest
import torch
from torch import Tensor

from compress.finetune.rounding import FIXED, INSIDE, OUTSIDE, round_activation, round_weight


def activation(x: Tensor, *, step: float, zero: float, learns: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rounded values and the two parameters, on an unsigned 2-bit grid (codes 0 to 3)."""
    log_step = torch.tensor([step]).log().requires_grad_()
    zero_point = torch.tensor([zero], requires_grad=True)
    return round_activation(x, log_step, zero_point, low=0, high=3, learns=learns), log_step, zero_point


def test_values_are_rounded_and_clipped() -> None:
    x = torch.tensor([-1.0, 0.2, 0.6, 1.2, 9.0])

    rounded, _, _ = activation(x, step=0.5, zero=1.0, learns=INSIDE)

    assert rounded.tolist() == [-0.5, 0.0, 0.5, 1.0, 1.0]  # values -0.5 … 1.0 in steps of 0.5


def test_the_gradient_passes_where_nothing_is_clipped() -> None:
    x = torch.tensor([-1.0, 0.2, 1.2, 9.0], requires_grad=True)

    rounded, _, _ = activation(x, step=0.5, zero=0.0, learns=INSIDE)
    torch.autograd.backward(rounded, torch.tensor([1.0, 2.0, 3.0, 4.0]))

    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 0.0]


def test_the_step_learns_by_rounding_errors_and_clipped_values() -> None:
    # LSQ: dq/ds = round(x/s) - x/s inside, 0 and 3 at the clipped ends; by log(s) that times s.
    x = torch.tensor([-1.0, 0.2, 1.2, 9.0], requires_grad=True)

    rounded, log_step, _ = activation(x, step=0.5, zero=0.0, learns=INSIDE)
    torch.autograd.backward(rounded.sum())

    by_step = 0.0 + (0 - 0.4) + (2 - 2.4) + 3
    assert log_step.grad is not None
    assert log_step.grad.item() == pytest.approx(0.5 * by_step)


def test_the_bound_learns_by_clipped_values_alone() -> None:
    # PACT: dq/dbound = 1 above it; the bound is 3 steps, so by log(s) it is the bound itself.
    x = torch.tensor([-1.0, 0.2, 1.2, 9.0, 5.0], requires_grad=True)

    rounded, log_step, _ = activation(x, step=0.5, zero=0.0, learns=OUTSIDE)
    torch.autograd.backward(rounded.sum())

    assert log_step.grad is not None
    assert log_step.grad.item() == pytest.approx(2 * 1.5)


def test_a_fixed_step_learns_nothing() -> None:
    x = torch.tensor([0.2, 9.0], requires_grad=True)

    rounded, log_step, _ = activation(x, step=0.5, zero=0.0, learns=FIXED)
    torch.autograd.backward(rounded.sum())

    assert log_step.grad is None


def test_the_zero_point_learns_by_clipped_values() -> None:
    # A grid's end is (code - zero_point) * s: one more zero point moves it down by a step.
    x = torch.tensor([-9.0, 0.2, 9.0], requires_grad=True)

    rounded, _, zero_point = activation(x, step=0.5, zero=1.0, learns=INSIDE)
    torch.autograd.backward(rounded, torch.tensor([1.0, 5.0, 2.0]))

    assert zero_point.grad is not None
    assert zero_point.grad.item() == pytest.approx(-0.5 * 3)


def test_memory_layout_changes_no_gradient() -> None:
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    outcomes = []

    for layout in (torch.contiguous_format, torch.channels_last):
        image = x.clone(memory_format=layout).requires_grad_()
        rounded, log_step, _ = activation(image, step=0.3, zero=1.0, learns=INSIDE)
        torch.autograd.backward(rounded.square().sum())
        assert image.grad is not None
        assert log_step.grad is not None
        outcomes.append((image.grad, log_step.grad))

    torch.testing.assert_close(outcomes[0], outcomes[1])


def test_each_channel_of_a_weight_has_its_own_step() -> None:
    weight = torch.tensor([[0.24, -5.0], [0.24, 0.9]], requires_grad=True)
    log_step = torch.tensor([0.5, 0.1]).log().requires_grad_()

    rounded = round_weight(weight, log_step, low=-2, high=1, learns=INSIDE)
    torch.autograd.backward(rounded.sum())

    torch.testing.assert_close(rounded, torch.tensor([[0.0, -1.0], [0.1, 0.1]]))
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert log_step.grad is not None
    # Channel 1: 0 - 0.24 inside, -2 * 0.5 at the lower end. Channel 2: both at the upper end, 0.1 each.
    torch.testing.assert_close(log_step.grad, torch.tensor([-0.24 - 1.0, 0.2]))


def test_one_bit_is_the_sign_with_a_learned_magnitude() -> None:
    weight = torch.tensor([[0.4, -0.1, 0.0]], requires_grad=True)
    log_step = torch.tensor([0.2]).log().requires_grad_()

    rounded = round_weight(weight, log_step, low=-1, high=1, learns=INSIDE)
    torch.autograd.backward(rounded, torch.tensor([[1.0, 1.0, 3.0]]))

    torch.testing.assert_close(rounded, torch.tensor([[0.2, -0.2, 0.2]]))
    assert log_step.grad is not None
    assert log_step.grad.item() == pytest.approx(0.2 * (1 - 1 + 3))
