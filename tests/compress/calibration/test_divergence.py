import pytest
import torch

from compress.calibration import Histogram, least_divergence


def histogram_of(values: torch.Tensor) -> Histogram:
    histogram = Histogram()
    histogram.observe(values)
    return histogram


def test_a_few_far_values_are_clipped_and_many_even_ones_are_not() -> None:
    even = torch.linspace(0.0, 1.0, 50_001)[1:]
    with_outlier = torch.cat([even, torch.tensor([20.0])])

    assert least_divergence(histogram_of(even), 8, "unsigned")[1] > 0.9
    assert least_divergence(histogram_of(with_outlier), 4, "unsigned")[1] < 5.0


@pytest.mark.parametrize("kind", ["signed", "unsigned"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_bounds_lie_within_the_extremes_and_hold_zero(bits: int, kind: str) -> None:
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0))

    least, most = least_divergence(histogram_of(values), bits, kind)

    assert float(values.min()) <= least <= 0.0 <= most <= float(values.max())
    assert most > 0.5


def test_a_value_that_is_always_zero_has_bounds() -> None:
    assert least_divergence(histogram_of(torch.zeros(100)), 8, "unsigned") == (0.0, 0.0)
