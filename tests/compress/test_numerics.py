import pytest

from compress.numerics import checked_numerics
from compress.plan import Numerics
from hwmodels.errors import InputError, UnknownNameError


def test_fields_that_are_not_named_are_as_usual() -> None:
    found = checked_numerics({"scale_format": "power_of_two", "other_bits": 6})

    assert found == Numerics(scale_format="power_of_two", other_bits=6)


def test_every_field_has_its_usual_value_among_the_known_ones() -> None:
    usual = {name: getattr(Numerics(), name) for name in Numerics.__slots__}

    assert checked_numerics(usual) == Numerics()


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"numerics\.scale: must be one of weight_granularity, .*scale_format"):
        checked_numerics({"scale": "power_of_two"})


@pytest.mark.parametrize(("field", "value"), [("scale_format", "double"), ("other_bits", 9), ("other_bits", True)])
def test_a_value_that_there_is_not_is_refused_with_those_that_there_are(field: str, value: str | int) -> None:
    with pytest.raises(InputError, match=rf"numerics\.{field}: must be one of .*, got {value!r}"):
        checked_numerics({field: value})
