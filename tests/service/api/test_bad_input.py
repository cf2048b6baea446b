"""Every way of the main job's bad input: refused by field, rule and value; nothing stored, the service well."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.api.conftest import Running
from tests.service.api.test_errors import problem_of
from tests.service.api.uploads import (
    ONNX,
    WEIGHTS,
    digits,
    npz,
    onnx_with_external_data,
    onnx_with_operator,
    post_dataset,
    post_model,
)

DEVICE = "raspberry-pi-4"


@pytest.fixture(scope="module")
def ids(running: Running) -> dict[str, str]:
    found = {
        "model": post_model(running.http),
        "digits": post_dataset(running.http, npz(**digits())),
        "eleven classes": post_dataset(running.http, npz(x=digits()["x"], y=np.arange(200) % 11)),
        "wrong shape": post_dataset(running.http, npz(x=np.zeros((200, 8, 9, 1), np.uint8), y=np.arange(200) % 10)),
        "few": post_dataset(running.http, npz(**digits(79))),
    }
    assert [answer.text for answer in found.values() if answer.is_error] == []
    return {name: answer.json()["id"] for name, answer in found.items()}


UPLOADS: dict[str, tuple[Callable[[httpx.Client], httpx.Response], str, str]] = {
    "an empty model": (lambda http: post_model(http, b""), "file", "empty_file"),
    "a truncated model": (lambda http: post_model(http, ONNX.read_bytes()[:-2000]), "model", "not_onnx"),
    "the head of a model": (lambda http: post_model(http, ONNX.read_bytes()[:100]), "model", "not_onnx"),
    "a text named .onnx": (lambda http: post_model(http, b"Dear service,\nhere is my network.\n"), "model", "not_onnx"),
    "external data outside": (
        lambda http: post_model(http, onnx_with_external_data("../../../../etc/passwd")),
        "model",
        "external_data",
    ),
    "external data of the machine": (
        lambda http: post_model(http, onnx_with_external_data("/etc/passwd")),
        "model",
        "external_data",
    ),
    "an unknown operator": (
        lambda http: post_model(http, onnx_with_operator("Sorcery")),
        "model",
        "unsupported_operator",
    ),
    "a data set as a model": (lambda http: post_model(http, npz(**digits())), "model", "not_onnx"),
    "weights without architecture": (lambda http: post_model(http, WEIGHTS.read_bytes()), "model", "not_onnx"),
    "an unknown architecture": (
        lambda http: post_model(http, WEIGHTS.read_bytes(), architecture="resnet9000"),
        "architecture",
        "unknown_name",
    ),
    "weights of another architecture": (
        lambda http: post_model(http, WEIGHTS.read_bytes(), architecture="cifar_resnet20"),
        "weights",
        "invalid_input",
    ),
    "half the weights": (
        lambda http: post_model(http, WEIGHTS.read_bytes()[:5000], architecture="digits_resnet"),
        "weights",
        "invalid_input",
    ),
    "an unknown task": (lambda http: post_model(http, task="poetry"), "task", "invalid_input"),
    "an unknown layout": (lambda http: post_model(http, layout="CHWN"), "layout", "invalid_input"),
    "a mean that is no number": (lambda http: post_model(http, mean="[1, 'a']"), "mean", "invalid_input"),
    "a mean that no float holds": (lambda http: post_model(http, mean="1" + "0" * 400), "mean", "invalid_input"),
    "a mean per nothing": (lambda http: post_model(http, mean="[1, 2]", std="[1, 1]"), "mean", "invalid_input"),
    "a spread of zero": (lambda http: post_model(http, std="0"), "std", "invalid_input"),
    "a scale of zero": (lambda http: post_model(http, scale="0"), "scale", "invalid_input"),
    "no file": (lambda http: http.post("/v1/models", data={"task": "classification"}), "file", "invalid_input"),
    "empty data": (lambda http: post_dataset(http, b""), "file", "empty_file"),
    "a pickled array": (
        lambda http: post_dataset(http, npz(x=np.array([{"a": 1}] * 4, dtype=object), y=np.arange(4))),
        "x",
        "pickled_array",
    ),
    "negative labels": (
        lambda http: post_dataset(http, npz(x=digits()["x"], y=np.arange(200) - 1)),
        "y",
        "label_out_of_range",
    ),
    "no labels": (lambda http: post_dataset(http, npz(x=digits()["x"])), "y", "labels_missing"),
    "fewer labels than images": (
        lambda http: post_dataset(http, npz(x=digits()["x"], y=np.arange(7))),
        "y",
        "bad_shape",
    ),
    "a model as data": (lambda http: post_dataset(http, ONNX.read_bytes()), "file", "not_npz"),
}


@pytest.mark.parametrize("case", UPLOADS)
def test_a_bad_upload_is_refused_by_name_and_leaves_nothing(running: Running, case: str) -> None:
    upload, field, code = UPLOADS[case]
    before = running.state()

    problem = problem_of(upload(running.http), 422)

    assert problem["code"] == code
    errors = problem["errors"]
    assert isinstance(errors, list)
    assert errors[0]["field"] == field
    assert errors[0]["rule"]
    assert running.state() == before
    assert running.http.get("/readyz").status_code == 200


def test_an_unknown_operator_is_named_with_its_node_and_the_known_ones(http: httpx.Client) -> None:
    rule = str(problem_of(post_model(http, onnx_with_operator("Sorcery")), 422)["detail"])

    assert "Sorcery" in rule
    assert "odd one" in rule
    assert "Conv" in rule


JOBS: dict[str, tuple[dict[str, Any], int, str, str, Any]] = {
    "no data": ({"dataset_id": None}, 422, "dataset_id", "invalid_input", None),
    "data for a job without data": ({"data_free": True}, 422, "dataset_id", "invalid_input", None),
    "no data and batch norms that were folded": (
        {"dataset_id": None, "data_free": True},
        422,
        "network",
        "invalid_input",
        None,
    ),
    "a drop of accuracy without data": (
        {"dataset_id": None, "data_free": True, "limits": {"accuracy_drop": 0.01}},
        422,
        "limits.accuracy_drop",
        "invalid_input",
        0.01,
    ),
    "longer imitation than anybody waits for": (
        {"imitation_steps": 10_001},
        422,
        "imitation_steps",
        "invalid_input",
        10_001,
    ),
    "unknown numerics": ({"numerics": {"rounding": "up"}}, 422, "numerics.rounding", "unknown_name", "rounding"),
    "numerics that the device does not run": (
        {"devices": ["nvidia-t4"], "numerics": {"activation_type": "unsigned"}},
        422,
        "numerics.activation_type",
        "invalid_input",
        "unsigned",
    ),
    "an unknown model": ({"model_id": "nothing"}, 404, "model_id", "unknown_model", "nothing"),
    "an unknown data set": ({"dataset_id": "nothing"}, 404, "dataset_id", "unknown_dataset", "nothing"),
    "an unknown device": ({"devices": [DEVICE, "toaster"]}, 404, "devices.1", "unknown_device", "toaster"),
    "labels beyond the outputs": ({"dataset_id": "eleven classes"}, 422, "dataset_id", "label_out_of_range", 10),
    "images of another shape": ({"dataset_id": "wrong shape"}, 422, "dataset_id", "shape_mismatch", [8, 9, 1]),
    "too few images": ({"dataset_id": "few"}, 422, "dataset_id", "too_few_images", 79),
    "an impossible limit": (
        {"limits": {"latency_ms": 1e-6}},
        422,
        "devices.0.limits.latency_ms",
        "impossible_limit",
        1e-6,
    ),
    "an unknown operator": ({"space": {"operators": ["ghost of christmas"]}}, 422, "operator", "unknown_name", None),
    "an unknown layer": ({"keep": {"no such layer": {"weight_bits": 8}}}, 422, "keep", "unknown_name", None),
    "an unknown strategy": ({"strategy": "luck"}, 422, "strategy", "unknown_name", "luck"),
}


@pytest.mark.parametrize("case", JOBS)
def test_a_job_that_cannot_be_is_refused_by_name_and_not_queued(
    running: Running, ids: dict[str, str], case: str
) -> None:
    changes, status, field, code, value = JOBS[case]
    body = {"model_id": ids["model"], "dataset_id": ids["digits"], "devices": [DEVICE], **changes}
    body["dataset_id"] = ids.get(body["dataset_id"] or "", body["dataset_id"])
    before = running.state()

    problem = problem_of(running.http.post("/v1/jobs", json=body), status)

    assert problem["code"] == code
    errors = problem["errors"]
    assert isinstance(errors, list)
    assert errors[0]["field"].startswith(field)
    assert value is None or errors[0]["value"] == value
    assert running.state() == before


def test_an_impossible_limit_is_answered_with_what_can_be_reached(running: Running, ids: dict[str, str]) -> None:
    body = {"model_id": ids["model"], "dataset_id": ids["digits"], "devices": [DEVICE], "limits": {"model_bytes": 10}}

    problem = problem_of(running.http.post("/v1/jobs", json=body), 422)

    estimate = {"model_id": ids["model"], "devices": [DEVICE], "fit_check": True, "limits": {"model_bytes": 10}}
    reach = running.http.post("/v1/estimates", json=estimate).json()["ranges"][DEVICE]["model_bytes"]
    for size in ("smallest", "middle", "largest"):
        assert f"{reach[size]:.6g}" in str(problem["detail"])


def test_an_upload_that_breaks_off_leaves_nothing(running: Running) -> None:
    def half() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.npz"\r\n\r\nPK'
        raise ConnectionError("the network is gone")

    before = running.state()

    with pytest.raises(ConnectionError):
        running.http.post("/v1/datasets", content=half(), headers={"content-type": "multipart/form-data; boundary=b"})

    assert running.state() == before
    assert running.http.get("/healthz").status_code == 200


def test_no_file_of_the_machine_got_into_the_artefacts(running: Running) -> None:
    folder: Path = running.services.settings.home / "artifacts"

    assert not [path for path in folder.rglob("*") if path.is_file() and b"root:" in path.read_bytes()]
