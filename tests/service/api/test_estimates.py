from typing import Any

import httpx
import pytest

from tests.service.api.test_errors import problem_of
from tests.service.api.uploads import post_model

DEVICES = ["raspberry-pi-4", "stm32h743"]


@pytest.fixture(scope="module")
def model(running: Any) -> dict[str, Any]:
    return dict(post_model(running.http).json())


def ask(http: httpx.Client, model: dict[str, Any], **more: Any) -> httpx.Response:
    return http.post("/v1/estimates", json={"model_id": model["id"], "devices": DEVICES, **more})


def test_a_network_is_priced_kernel_by_kernel(http: httpx.Client, model: dict[str, Any]) -> None:
    answer = ask(http, model).json()

    assert [row["device"] for row in answer["estimates"]] == DEVICES
    for row in answer["estimates"]:
        assert sum(kernel["latency_ms"] for kernel in row["layers"]) <= row["latency_ms"] * (1 + 1e-9)
        assert sum(kernel["macs"] for kernel in row["layers"]) == row["macs"]
        assert row["latency_ms"] == model["baseline"][row["device"]]["latency_ms"]
        assert row["fits"] is None
    assert answer["ranges"] is None


def test_a_plan_makes_the_network_smaller(http: httpx.Client, model: dict[str, Any]) -> None:
    layers = {layer["name"]: {"weight_bits": 8, "activation_bits": 8} for layer in model["layers"]}
    groups = {group["name"]: 0.5 for group in model["groups"]}

    whole = ask(http, model).json()["estimates"][0]
    eight = ask(http, model, plan={"layers": layers}).json()["estimates"][0]
    halved = ask(http, model, plan={"layers": layers, "keep_ratios": groups}).json()["estimates"][0]

    # 8 instead of 32 bits, with a scale per channel beside: between 3 and 4 times smaller.
    assert 3 < whole["model_bytes"] / eight["model_bytes"] < 4
    assert eight["macs"] == whole["macs"]
    assert halved["macs"] < eight["macs"] / 2


def test_limits_are_held_against_the_price(http: httpx.Client, model: dict[str, Any]) -> None:
    price = ask(http, model).json()["estimates"][0]["model_bytes"]

    keeps = ask(http, model, limits={"model_bytes": price}).json()["estimates"][0]
    breaks = ask(http, model, limits={"model_bytes": price // 2}).json()["estimates"][0]

    assert (keeps["fits"], keeps["violations"]) == (True, {})
    assert breaks["fits"] is False
    assert breaks["violations"] == {"model_bytes": pytest.approx(price / (price // 2) - 1)}


def test_the_fit_check_says_how_far_a_search_could_get(http: httpx.Client, model: dict[str, Any]) -> None:
    ranges = ask(http, model, fit_check=True).json()["ranges"]

    for device in DEVICES:
        for row in ranges[device].values():
            assert 0 < row["smallest"] <= row["middle"] <= row["largest"]


@pytest.mark.parametrize(
    ("plan", "field", "code"),
    [
        ({"colour": "red"}, "plan", "invalid_plan"),
        ({"layers": 3}, "plan", "invalid_plan"),
        ({"layers": {"x": {"bits": 3}}}, "plan", "invalid_plan"),
        ({"schema_version": 99}, "plan", "invalid_plan"),
        ({"keep_ratios": {"no such group": 0.5}}, "keep_ratios", "unknown_name"),
        ({"operators": {"no such block": {"operator": "skip", "parameters": {}}}}, "operators", "unknown_name"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(
    http: httpx.Client, model: dict[str, Any], plan: dict[str, Any], field: str, code: str
) -> None:
    problem = problem_of(ask(http, model, plan=plan), 422)

    assert problem["code"] == code
    assert problem["errors"][0]["field"] == field  # type: ignore[index]


def test_unknown_models_and_devices_are_404s(http: httpx.Client, model: dict[str, Any]) -> None:
    assert problem_of(ask(http, {"id": "nothing"}), 404)["code"] == "unknown_model"
    assert problem_of(ask(http, model, devices=["toaster"]), 404)["code"] == "unknown_device"


@pytest.mark.parametrize("number", ["1e400", "NaN", "-Infinity"])
def test_a_plan_holds_finite_numbers(http: httpx.Client, model: dict[str, Any], number: str) -> None:
    body = f'{{"model_id": "{model["id"]}", "devices": ["stm32h743"], "plan": {{"keep_ratios": {{"a": {number}}}}}}}'

    problem = problem_of(http.post("/v1/estimates", content=body, headers={"content-type": "application/json"}), 422)

    assert problem["errors"][0]["field"] == "plan"  # type: ignore[index]
