import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from service.cli.options import LIMIT_NAMES, parse_device, parse_limits, parse_numbers


def test_a_device_alone_has_no_limits_of_its_own() -> None:
    assert parse_device("raspberry-pi-4") == {"name": "raspberry-pi-4", "limits": {}}


def test_a_device_may_carry_its_own_limits() -> None:
    parsed = parse_device("stm32h743:latency_ms=4.5,model_bytes=40000")

    assert parsed == {"name": "stm32h743", "limits": {"latency_ms": 4.5, "model_bytes": 40_000}}
    assert isinstance(parsed["limits"]["model_bytes"], int)


@given(st.dictionaries(st.sampled_from(LIMIT_NAMES), st.integers(0, 2**53)))
def test_what_is_written_is_read(limits: dict[str, int]) -> None:
    text = ",".join(f"{name}={value}" for name, value in limits.items())

    assert parse_device(f"d:{text}")["limits"] == limits


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("latency_ms", "NAME=VALUE"),
        ("latency=4", "unknown limit 'latency'; known: latency_ms"),
        ("latency_ms=fast", "must be a number"),
        ("latency_ms=-1", "not negative"),
        ("latency_ms=nan", "finite"),
        ("latency_ms=inf", "finite"),
        ("model_bytes=1.5", "whole bytes"),
    ],
)
def test_a_limit_that_is_none_is_refused_with_the_rule(pair: str, said: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        parse_limits([pair])

    assert said in str(caught.value)


def test_a_limit_that_is_given_twice_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="twice"):
        parse_limits(["latency_ms=1", "latency_ms=2"])


def test_a_device_without_a_name_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="NAME"):
        parse_device(":latency_ms=4")


def test_numbers_are_separated_by_commas() -> None:
    assert parse_numbers("2,4,8", name="--weight-bits", kind=int) == [2, 4, 8]
    with pytest.raises(typer.BadParameter, match="--weight-bits is a list"):
        parse_numbers("2;4", name="--weight-bits", kind=int)
