import pytest

from hwmodels.profile import builtin_profiles
from service.device_facts import Fact, facts


def test_a_quantity_is_one_fact_with_its_source() -> None:
    profile = {"memory": {"ram_kib": {"value": 512.0, "confidence": "datasheet", "source": "RM0433"}}}

    assert list(facts(profile)) == [Fact(name="memory.ram_kib", value="512", confidence="datasheet", source="RM0433")]


def test_the_source_of_a_part_holds_for_what_it_contains() -> None:
    profile = {"formats": {"weight_bits": [8, 32], "confidence": "datasheet", "source": "manual"}}

    assert list(facts(profile)) == [
        Fact(name="formats.weight_bits", value="8, 32", confidence="datasheet", source="manual")
    ]


def test_entries_of_a_list_are_numbered_from_one() -> None:
    names = [fact.name for fact in facts({"rates": [{"bits": 8}, {"bits": 4}], "notes": ()})]

    assert names == ["rates 1: bits", "rates 2: bits"]


@pytest.mark.parametrize("name", sorted(builtin_profiles()))
def test_every_number_of_a_shipped_profile_is_shown(name: str) -> None:
    profile = builtin_profiles()[name].to_json()

    def quantities(part: object) -> int:
        if isinstance(part, dict):
            return int("value" in part) or sum(quantities(value) for value in part.values())
        return sum(quantities(value) for value in part) if isinstance(part, list) else 0

    sourced = [fact for fact in facts(profile) if fact.confidence and fact.source]
    assert len(sourced) >= quantities(profile) > 0
