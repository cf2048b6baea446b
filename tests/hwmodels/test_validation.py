import pytest

from hwmodels.validation import spearman, summarise


def test_errors_are_relative_to_the_measurement() -> None:
    # Off by 4, 10, 50 and 0 percent.
    summary = summarise([104, 90, 15, 7], [100, 100, 10, 7])

    assert summary.mape_percent == pytest.approx(16)
    assert summary.median_percent == pytest.approx(7)
    assert summary.within_5_percent == 50
    assert summary.within_10_percent == 75
    assert summary.within_20_percent == 75
    assert summary.worst_percent == pytest.approx(50)


def test_the_rank_correlation_sees_order_only() -> None:
    assert spearman([1, 10, 100], [3, 4, 5]) == pytest.approx(1)
    assert spearman([3, 2, 1], [3, 4, 5]) == pytest.approx(-1)
    # One swap of neighbours among four: 1 - 6·2 / (4·15).
    assert spearman([1, 2, 4, 3], [1, 2, 3, 4]) == pytest.approx(0.8)


def test_two_points_and_equal_values_have_no_rank_correlation() -> None:
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None
