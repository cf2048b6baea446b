import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import display


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.4, "1,234"), (100, "100"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.0123"), (None, "–")],
)
def test_amounts_have_three_digits(value: float | None, text: str) -> None:
    assert display.amount(value) == text


@given(st.floats(1e-6, 1e9))
def test_an_amount_is_within_half_a_percent_of_the_value(value: float) -> None:
    # three significant digits: half a unit of the third one is at most 0.5 % of the value
    assert float(display.amount(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (23_456, "23.5 kB"), (2.5e9, "2.50 GB")]
)
def test_sizes_are_decimal(value: float, text: str) -> None:
    assert display.size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3725, "1 h 02 min"), (None, "–")]
)
def test_durations_have_two_units_at_most(seconds: float | None, text: str) -> None:
    assert display.duration(seconds) == text


def test_a_time_without_a_zone_is_utc() -> None:
    assert display.moment("2026-01-02T03:04:05") == "2026-01-02 03:04:05 UTC"
    assert display.moment("2026-01-02T03:04:05+02:00") == "2026-01-02 01:04:05 UTC"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 0.97243, "97.24 %"),
        ("accuracy_drop", 0.015, "1.5 points"),
        ("latency_ms", 1.5, "1.50 ms"),
        ("energy_mj", 20.0, "20.0 mJ"),
        ("peak_memory_bytes", 2048, "2.05 kB"),
        ("macs", 5.0, "5.00"),
    ],
)
def test_a_quantity_has_the_unit_of_its_name(name: str, value: float, text: str) -> None:
    assert display.quantity(name, value) == text


def test_a_difference_has_its_sign() -> None:
    assert display.points(-0.0125) == "-1.25 points"
    assert display.points(0.001) == "+0.10 points"
