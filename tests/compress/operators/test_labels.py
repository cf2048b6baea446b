import pytest

from compress.operators.labels import expanded, operator_choice
from compress.plan import OperatorChoice
from hwmodels.errors import InputError


def test_a_name_alone_keeps_the_defaults() -> None:
    assert operator_choice("low_rank") == OperatorChoice(operator="low_rank")


def test_parameters_stand_in_brackets() -> None:
    found = operator_choice("low_rank(rank_ratio=0.25, form=spatial)")

    assert found == OperatorChoice(operator="low_rank", parameters={"rank_ratio": 0.25, "form": "spatial"})


@pytest.mark.parametrize(
    "label", ["low_rank(", "low_rank)", "low_rank(rank=1)", "low_rank(rank_ratio=0.3)", "nothing", "", "skip(ratio=2)"]
)
def test_what_no_operator_offers_is_refused(label: str) -> None:
    with pytest.raises(InputError):
        operator_choice(label)


def test_a_star_stands_for_every_combination() -> None:
    found = expanded("low_rank(*)")

    assert len(found) == len(set(found)) == 6  # two forms, three ranks
    assert {operator_choice(label).parameters["rank_ratio"] for label in found} == {0.25, 0.375, 0.5}
    assert expanded("skip(*)") == ("skip",)
    assert expanded("skip") == ("skip",)
