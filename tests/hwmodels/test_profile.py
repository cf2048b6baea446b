import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hwmodels.errors import InputError, UnknownNameError
from hwmodels.profile import ProfileError, builtin_profiles, json_schema, load_profile, parse_profile


def pi() -> dict[str, Any]:
    return copy.deepcopy(builtin_profiles()["raspberry-pi-4"].to_json())


def numbers(data: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(data, dict):
        if set(data) == {"value", "confidence", "source"}:
            return [path]
        return [found for key, item in data.items() for found in numbers(item, (*path, key))]
    if isinstance(data, list):
        return [found for index, item in enumerate(data) for found in numbers(item, (*path, index))]
    return []


def at(data: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        data = data[step]
    return data


@pytest.mark.parametrize("name", sorted(builtin_profiles()))
def test_a_shipped_profile_survives_the_way_through_yaml(name: str) -> None:
    profile = builtin_profiles()[name]

    assert parse_profile(profile.to_yaml()) == profile


@pytest.mark.parametrize("name", sorted(builtin_profiles()))
def test_the_file_of_a_shipped_profile_bears_its_name(name: str) -> None:
    folder = Path(__file__).parents[2] / "hwmodels" / "profiles"

    assert (folder / f"{name}.yaml").is_file()


@pytest.mark.parametrize("path", numbers(builtin_profiles()["raspberry-pi-4"].to_json()))
def test_a_negative_number_is_refused_with_its_name(path: tuple[str | int, ...]) -> None:
    data = pi()
    at(data, path)["value"] = -1.0

    with pytest.raises(ProfileError) as caught:
        load_profile(data)

    assert caught.value.field == ".".join(map(str, (*path, "value")))


@given(st.sampled_from(["clock_ghz", "family", "formats", "model"]))
def test_a_missing_field_is_refused_with_its_name(field: str) -> None:
    data = pi()
    del data[field]

    with pytest.raises(InputError) as caught:
        load_profile(data)

    assert caught.value.field.startswith(field)


def test_a_missing_number_deep_inside_is_refused_with_its_path() -> None:
    data = pi()
    del data["model"]["efficiency"]["depthwise"]

    with pytest.raises(ProfileError) as caught:
        load_profile(data)

    assert caught.value.field == "model.efficiency.depthwise"


def test_a_misspelt_field_is_answered_with_the_right_one() -> None:
    data = pi()
    data["model"]["lanch_us"] = data["model"].pop("launch_us")

    with pytest.raises(ProfileError, match=r"model\.lanch_us.*did you mean 'launch_us'"):
        load_profile(data)


def test_zero_is_refused_where_a_price_divides_by_it() -> None:
    data = pi()
    data["model"]["dram_gb_per_s"]["value"] = 0

    with pytest.raises(ProfileError, match=r"model\.dram_gb_per_s: value must be greater than 0"):
        load_profile(data)


@pytest.mark.parametrize("node_nm", [3, 90])
def test_a_node_whose_energy_nobody_scales_is_refused(node_nm: int) -> None:
    data = pi()
    data["energy"]["mac"] = {"node_nm": {"value": node_nm, "confidence": "estimate", "source": "test"}}

    with pytest.raises(ProfileError, match=r"energy\.mac\.node_nm: must be in 5\.\.65 nm"):
        load_profile(data)


@pytest.mark.parametrize("name", ["threads", "cores"])
def test_half_a_thread_is_refused(name: str) -> None:
    data = pi()
    data["model"][name]["value"] = 0.5

    with pytest.raises(ProfileError, match=rf"model\.{name}: value must be at least 1"):
        load_profile(data)


def test_an_unknown_family_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"microcontroller.*roofline"):
        load_profile({**pi(), "family": "rooflin"})


@pytest.mark.parametrize("value", [1e-300, 1e300])
def test_a_number_that_no_device_has_is_refused_before_prices_overflow(value: float) -> None:
    data = pi()
    data["model"]["dram_gb_per_s"]["value"] = value

    with pytest.raises(ProfileError, match=r"model\.dram_gb_per_s.*must be 0 or in 1e-15\.\.1e\+15"):
        load_profile(data)


@pytest.mark.parametrize("text", ["- 1", "a: [", "!!python/object:os.system {}", "42", ""])
def test_text_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ProfileError):
        parse_profile(text)


@pytest.mark.parametrize("value", [".nan", ".inf", "fast"])
def test_a_number_that_is_none_is_refused(value: str) -> None:
    data = pi()
    data["clock_ghz"]["value"] = yaml.safe_load(value)

    with pytest.raises(ProfileError, match=r"clock_ghz\.value"):
        load_profile(data)


def test_a_float_network_without_validation_says_so() -> None:
    data = pi()
    data["validation"] = []

    assert load_profile(data).expected_error("latency_ms") == "not validated by measurement"


def test_the_schema_names_every_family() -> None:
    schema = json_schema()

    assert {"roofline", "microcontroller"} <= set(schema["properties"]["family"]["enum"])
    assert schema["additionalProperties"] is False
    assert "launch_us" in schema["$defs"]["model_roofline"]["properties"]


NUMERICS = {"activation_type": "signed", "end_bits": 8, "confidence": "estimate", "source": "test"}


def test_a_profile_of_ones_own_may_say_which_numbers_its_runtime_takes() -> None:
    profile = load_profile({**pi(), "numerics": NUMERICS})

    assert profile.numerics is not None
    assert profile.numerics.demands() == {"activation_type": "signed"}
    assert parse_profile(profile.to_yaml()) == profile


@pytest.mark.parametrize(
    ("field", "value"), [("end_bits", 1), ("end_bits", 9), ("activation_type", "asymmetric"), ("source", "")]
)
def test_a_demand_that_no_runtime_can_have_is_refused_with_its_name(field: str, value: object) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile({**pi(), "numerics": {**NUMERICS, field: value}})

    assert caught.value.field == f"numerics.{field}"


def test_ends_wider_than_the_formats_are_refused() -> None:
    data = {**pi(), "numerics": NUMERICS}
    data["formats"]["weight_bits"] = [2, 4]

    with pytest.raises(ProfileError, match=r"numerics\.end_bits must be at most 4, .* got 8"):
        load_profile(data)
