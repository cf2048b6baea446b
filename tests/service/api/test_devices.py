from copy import deepcopy
from typing import Any

import httpx
import pytest

from tests.service.api.test_errors import problem_of

BUILTIN = "raspberry-pi-4"


@pytest.fixture
def custom(http: httpx.Client) -> dict[str, Any]:
    profile: dict[str, Any] = deepcopy(http.get(f"/v1/devices/{BUILTIN}").json()["profile"])
    return {**profile, "name": "my-own-pi", "title": "My own"}


def test_the_builtin_devices_are_listed(http: httpx.Client) -> None:
    devices = http.get("/v1/devices").json()["items"]

    assert {"raspberry-pi-4", "stm32h743", "x86-avx512-vnni"} <= {row["name"] for row in devices}


def test_an_unknown_device_is_answered_with_the_known_ones(http: httpx.Client) -> None:
    assert BUILTIN in str(problem_of(http.get("/v1/devices/none"), 404)["detail"])


def test_the_schema_describes_a_profile(http: httpx.Client) -> None:
    assert "clock_ghz" in http.get("/v1/devices/schema").json()["properties"]


def test_a_custom_profile_is_stored_once_and_never_changes(http: httpx.Client, custom: dict[str, Any]) -> None:
    first = http.post("/v1/devices", json=custom)
    again = http.post("/v1/devices", json=custom)
    changed = http.post("/v1/devices", json={**custom, "title": "Another"})

    assert (first.status_code, again.status_code) == (201, 200)
    assert problem_of(changed, 409)["code"] == "device_exists"
    assert http.get("/v1/devices/my-own-pi").json()["profile"] == custom
    assert {"name": "my-own-pi", "title": "My own", "custom": True} in http.get("/v1/devices").json()["items"]


def test_a_profile_that_ships_is_not_replaced(http: httpx.Client, custom: dict[str, Any]) -> None:
    assert problem_of(http.post("/v1/devices", json={**custom, "name": BUILTIN}), 409)["code"] == "device_exists"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"family": "magic"}, "family"),
        ({"clock_ghz": {"value": -1, "confidence": "measured", "source": "a guess"}}, "clock_ghz"),
        ({"colour": "red"}, "colour"),
        ({"name": "../etc"}, "name"),
        ({"name": "schema"}, "name"),
        ({"model": {}}, "model"),
    ],
)
def test_a_profile_that_breaks_a_rule_is_refused_by_field(
    http: httpx.Client, custom: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    errors = problem_of(http.post("/v1/devices", json={**custom, **change}), 422)["errors"]

    assert isinstance(errors, list)
    assert errors[0]["field"].startswith(field)


def test_a_device_tells_its_roofs_and_how_far_to_trust_each_figure(http: httpx.Client) -> None:
    device = http.get(f"/v1/devices/{BUILTIN}").json()

    roof = device["roofs"][0]
    assert roof["gmac_per_s"][-1] == pytest.approx(roof["peak_gmac_per_s"])
    assert len(roof["macs_per_byte"]) == len(roof["gmac_per_s"])
    errors = {(row["figure"], row["networks_of"]): row["expected_error"] for row in device["validation"]}
    assert errors["latency_ms", "float"].startswith("±")
    assert errors["peak_memory_bytes", "any"] == "not validated by measurement"
