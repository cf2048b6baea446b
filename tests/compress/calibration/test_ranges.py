import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compress.calibration import ACTIVATION_RANGES, ActivationGrid, Histogram, solve_grid
from compress.network.ops.elementwise import quantize
from hwmodels.errors import UnknownNameError


def histogram_of(values: Tensor) -> Histogram:
    histogram = Histogram()
    histogram.observe(values)
    return histogram


def squared_error(values: Tensor, grid: ActivationGrid) -> float:
    rounded = quantize(values, scale=grid.scale, zero_point=grid.zero_point, low=grid.low, high=grid.high)
    return float((rounded - values).double().square().mean())


def gaussian(count: int = 40_000) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0))


@given(
    least=st.floats(-100, 0),
    most=st.floats(0, 100),
    bits=st.integers(2, 8),
    kind=st.sampled_from(["signed", "unsigned"]),
)
def test_zero_is_on_every_grid_and_codes_fit_the_bits(least: float, most: float, bits: int, kind: str) -> None:
    grid = ActivationGrid.spanning(least, most, bits, kind)

    assert grid.scale > 0
    assert grid.low <= grid.zero_point <= grid.high
    assert grid.high - grid.low == 2**bits - 1


@given(least=st.floats(-100, -0.01), most=st.floats(0.01, 100), bits=st.integers(2, 8))
def test_the_ends_of_an_unsigned_grid_are_the_bounds_to_half_a_step(least: float, most: float, bits: int) -> None:
    grid = ActivationGrid.spanning(least, most, bits, "unsigned")

    assert (grid.low - grid.zero_point) * grid.scale == pytest.approx(least, abs=grid.scale * 0.501)
    assert (grid.high - grid.zero_point) * grid.scale == pytest.approx(most, abs=grid.scale * 0.501)


@pytest.mark.parametrize("method", ACTIVATION_RANGES.names())
def test_values_that_are_never_negative_get_zero_point_zero(method: str) -> None:
    grid = solve_grid(histogram_of(gaussian().relu()), 4, method=method, activation_type="unsigned")

    assert (grid.zero_point, grid.low, grid.high) == (0, 0, 15)


@pytest.mark.parametrize("method", ACTIVATION_RANGES.names())
def test_a_value_that_is_always_zero_has_a_grid(method: str) -> None:
    grid = solve_grid(histogram_of(torch.zeros(100)), 8, method=method, activation_type="unsigned")

    assert squared_error(torch.zeros(10), grid) == 0


def test_min_max_clips_nothing() -> None:
    values = gaussian()

    grid = solve_grid(histogram_of(values), 8, method="min_max", activation_type="unsigned")

    assert grid.scale == pytest.approx(float(values.max() - values.min()) / 255)
    assert squared_error(values, grid) < grid.scale**2 / 11  # evenly spread rounding errors give scale² / 12


def test_percentile_leaves_one_in_ten_thousand_outside() -> None:
    values = torch.linspace(0, 1, 60_001)  # below the thinning limit; the 0.9999 quantile is 0.9999

    grid = solve_grid(histogram_of(values), 8, method="percentile", activation_type="unsigned")

    assert grid.scale * 255 == pytest.approx(0.9999, abs=1 / 2048)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["unsigned", "signed"])
@pytest.mark.parametrize("rectified", [True, False])
def test_least_squares_is_as_good_as_trying_every_range(bits: int, kind: str, rectified: bool) -> None:
    values = gaussian().relu() if rectified else gaussian() + 0.3
    least, most = min(0.0, float(values.min())), float(values.max())

    found = squared_error(values, solve_grid(histogram_of(values), bits, method="mse", activation_type=kind))

    tried = [
        squared_error(values, ActivationGrid.spanning(least * low, most * high, bits, kind))
        for low in np.linspace(0.1, 1, 12)
        for high in np.linspace(0.1, 1, 24)
    ]
    assert found <= min(tried) * 1.02


def test_one_histogram_answers_for_every_width() -> None:
    values = gaussian()
    histogram = histogram_of(values)

    errors = [
        squared_error(values, solve_grid(histogram, bits, method="mse", activation_type="unsigned"))
        for bits in range(2, 9)
    ]

    assert errors == sorted(errors, reverse=True)


@given(least=st.floats(-100, 0), most=st.floats(0.01, 100), bits=st.integers(2, 8))
def test_a_power_of_two_grid_covers_what_the_free_one_did(least: float, most: float, bits: int) -> None:
    free = ActivationGrid.spanning(least, most, bits, "unsigned")

    grid = free.in_power_of_two()

    assert np.log2(grid.scale) == round(np.log2(grid.scale))
    assert free.scale <= grid.scale < 2 * free.scale
    assert (grid.high - grid.zero_point) * grid.scale >= (free.high - free.zero_point) * free.scale - grid.scale


def test_an_unknown_method_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="min_max, mse, percentile"):
        solve_grid(histogram_of(gaussian()), 8, method="magic", activation_type="unsigned")
