import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from compress.calibration.histogram import BINS, SAMPLES, Histogram
from hwmodels.errors import InputError

BATCHES = st.lists(st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=30), min_size=1, max_size=6)


@given(batches=BATCHES)
@example(batches=[[1.671875], [0.0, -1.0]])  # zero lies on an edge that rounding moves
def test_every_value_is_counted_once_however_the_range_grows(batches: list[list[float]]) -> None:
    histogram = Histogram()

    for batch in batches:
        histogram.observe(torch.tensor(batch))

    values = [value for batch in batches for value in batch]
    assert histogram.total == len(values)
    assert histogram.zeros == values.count(0.0)
    assert histogram.minimum == min(values)
    assert histogram.maximum == max(values)
    assert histogram.low <= min(0.0, *values)
    assert histogram.low + BINS * histogram.width >= max(0.0, *values) - 0.01 * histogram.width


def test_counts_stay_in_their_place_when_bins_merge() -> None:
    # The first batch spans 0…1: 0.25 falls into bin 512. 3.9 needs two doublings, so 0.25 lies in bin 512 / 4 = 128,
    # 1.0 (last of 2048 bins) in 511, and 3.9 in 3.9 / 4 * 2048 = 1996.8.
    histogram = Histogram()
    histogram.observe(torch.tensor([0.25, 1.0]))

    histogram.observe(torch.tensor([3.9]))

    assert histogram.counts.nonzero()[0].tolist() == [128, 511, 1996]


def test_negative_values_extend_the_range_downwards() -> None:
    histogram = Histogram()
    histogram.observe(torch.tensor([0.25, 1.0]))

    histogram.observe(torch.tensor([-0.75]))

    # One doubling puts 0…1 into the upper half of -1…1: 0.25 → 1024 + 256, 1.0 → 2047, -0.75 → 256.
    assert histogram.low == -1.0
    assert histogram.counts.nonzero()[0].tolist() == [256, 1280, 2047]


def test_a_large_batch_is_thinned_out_evenly_over_columns() -> None:
    columns = torch.arange(1, 9).float().repeat(SAMPLES)  # eight times too many, in rows of eight
    histogram = Histogram()

    histogram.observe(columns)

    seen = histogram.counts[histogram.counts > 0]
    assert len(seen) == 8
    assert seen.min() > 0.99 * seen.max()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="must be finite"):
        Histogram().observe(torch.tensor([1.0, value]))
