import pytest

from search.laws import all_losses


def test_a_quarter_of_the_loss_is_left_with_each_further_bit() -> None:
    assert all_losses("weights", (2, 3, 5, 8), {0: 16.0}) == (16.0, 4.0, 0.25, 0.0)


def test_channels_lose_by_the_square_of_what_is_cut() -> None:
    assert all_losses("channels", (0.5, 0.75, 1.0), {0: 4.0}) == (4.0, 1.0, 0.0)


def test_a_measured_choice_is_taken_as_it_is_and_carries_on() -> None:
    assert all_losses("weights", (2, 4, 5, 8), {0: 16.0, 1: 2.0}) == (16.0, 2.0, 0.5, 0.0)


def test_noise_never_makes_a_dearer_choice_lose_more() -> None:
    assert all_losses("weights", (2, 4, 8), {0: 1.0, 1: 3.0}) == (3.0, 3.0, 0.0)


def test_choices_without_an_order_keep_their_losses() -> None:
    assert all_losses("quantizer", ("a", "b", "c"), {0: 1.0, 1: 3.0}, ordered=False) == pytest.approx((1.0, 3.0, 0.0))
