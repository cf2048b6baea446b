import shutil
from pathlib import Path

import anyio
import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from service.store.database import Database
from service.store.migrate import upgrade_to_head
from service.store.uploads import Datasets
from tests.service.api.conftest import Running
from tests.service.api.uploads import digits, npz

UNKNOWN = "0123456789abcdef" * 2  # constant: it is part of test names, which parallel workers must agree on


def problem_of(answer: httpx.Response, status: int) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"] == f"/v1/problems/{body['code']}"
    assert body["title"]
    assert body["detail"]
    return dict(body)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/nothing", "not_found"),
        ("GET", f"/v1/models/{UNKNOWN}", "unknown_model"),
        ("GET", f"/v1/datasets/{UNKNOWN}", "unknown_dataset"),
        ("GET", "/v1/devices/none", "unknown_device"),
        ("GET", f"/v1/jobs/{UNKNOWN}", "unknown_job"),
        ("GET", f"/v1/jobs/{UNKNOWN}/events", "unknown_job"),
        ("GET", f"/v1/jobs/{UNKNOWN}/trials", "unknown_job"),
        ("GET", f"/v1/jobs/{UNKNOWN}/front", "unknown_job"),
        ("GET", f"/v1/jobs/{UNKNOWN}/best", "unknown_job"),
        ("GET", f"/v1/jobs/{UNKNOWN}/best/checkpoint", "unknown_job"),
        ("POST", f"/v1/jobs/{UNKNOWN}/cancel", "unknown_job"),
        ("DELETE", f"/v1/jobs/{UNKNOWN}", "unknown_job"),
        ("GET", f"/v1/trials/{UNKNOWN}-1", "unknown_trial"),
        ("GET", "/v1/trials/1;drop table trials", "unknown_trial"),
        ("GET", f"/v1/trials/{UNKNOWN}-1/checkpoint", "unknown_trial"),
    ],
)
def test_what_is_not_there_is_a_404_problem(http: httpx.Client, method: str, path: str, code: str) -> None:
    assert problem_of(http.request(method, path), 404)["code"] == code


def test_a_wrong_method_is_a_405_problem_that_names_the_right_ones(http: httpx.Client) -> None:
    answer = http.put("/v1/jobs")

    assert problem_of(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"devices": ["raspberry-pi-4"]}, "model_id"),
        ({"model_id": "m", "devices": []}, "devices"),
        ({"model_id": "m", "devices": ["a", {"name": "a"}]}, "devices"),
        ({"model_id": "m", "devices": ["a"], "limits": {"latency_ms": -1}}, "limits.latency_ms"),
        ({"model_id": "m", "devices": ["a"], "limits": {"latency": 1}}, "limits.latency"),
        ({"model_id": "m", "devices": ["a"], "space": {"weight_bits": [0]}}, "space.weight_bits.0"),
        ({"model_id": "m", "devices": ["a"], "space": {"keep_ratios": [0.5, 0.5]}}, "space.keep_ratios"),
        ({"model_id": "m", "devices": ["a"], "budget": {"trials": None}}, "budget"),
        ({"model_id": "m", "devices": ["a"], "split": {"search": 0.9}}, "split"),
        ({"model_id": "m", "devices": ["a"], "objectives": ["latency_ms", "accuracy"]}, "objectives"),
        ({"model_id": "m", "devices": ["a"], "seed": "x"}, "seed"),
        ({"model_id": "m", "devices": ["a"], "colour": "red"}, "colour"),
    ],
)
def test_a_job_that_breaks_a_rule_is_answered_with_the_field(
    http: httpx.Client, body: dict[str, object], field: str
) -> None:
    problem = problem_of(http.post("/v1/jobs", json=body), 422)

    assert problem["code"] == "invalid_input"
    errors = problem["errors"]
    assert isinstance(errors, list)
    assert field in [error["field"] for error in errors]
    assert all(error["rule"] for error in errors)


@pytest.mark.parametrize(
    "value",
    ['"\\ud800"', "[" * 400 + "]" * 400, '{"a":' * 400 + "1" + "}" * 400, "1e400", "NaN", "1" + "0" * 4000, "true"],
    ids=["half a character", "deep lists", "deep objects", "infinity", "not a number", "a huge number", "a truth"],
)
@pytest.mark.parametrize("field", ["name", "model_id", "keep"])
def test_whatever_a_body_holds_is_told_back_in_a_422_problem(http: httpx.Client, field: str, value: str) -> None:
    body = f'{{"devices": ["a"], "{field}": {value}}}'

    problem = problem_of(http.post("/v1/jobs", content=body, headers={"content-type": "application/json"}), 422)

    assert problem["code"] == "invalid_input"
    errors = problem["errors"]
    assert isinstance(errors, list)
    assert any(error["field"].startswith(field) for error in errors)


def test_a_field_whose_name_is_no_text_is_a_422_problem(http: httpx.Client) -> None:
    body = '{"model_id": "m", "devices": ["a"], "odd \\ud800": 1}'

    problem_of(http.post("/v1/jobs", content=body, headers={"content-type": "application/json"}), 422)


@pytest.mark.parametrize("broken", ["tmp", "artifacts"])
def test_storage_that_is_away_is_a_503_problem_and_leaves_nothing(tmp_path: Path, broken: str) -> None:
    settings = Settings(home=tmp_path / "home")
    database = Database(settings.database_url)
    upgrade_to_head(database)
    app = create_app(settings)
    shutil.rmtree(settings.home / broken)
    (settings.home / broken).write_text("a file where a folder should be")

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            return await http.post("/v1/datasets", files={"file": npz(**digits())})

    answer = anyio.run(post)

    app.state.services.close()
    assert problem_of(answer, 503)["code"] == "storage_unavailable"
    assert answer.headers["retry-after"]
    with database.read() as connection:
        assert Datasets(connection).page() == []
    database.close()


def test_a_body_that_is_not_json_is_a_422_problem(http: httpx.Client) -> None:
    problem_of(http.post("/v1/jobs", content=b"{", headers={"content-type": "application/json"}), 422)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_long_body_is_refused_before_it_is_read(http: httpx.Client, chunked: bool) -> None:
    text = b"[" + b"1," * 2**16 + b"1]"
    content = iter([text[:9], text[9:]]) if chunked else text

    answer = http.post("/v1/jobs", content=content, headers={"content-type": "application/json"})

    assert problem_of(answer, 413)["code"] == "too_large"


def test_a_long_upload_is_refused_and_leaves_nothing(running: Running) -> None:
    before = running.state()

    answer = running.http.post("/v1/datasets", files={"file": ("x.npz", b"0" * (2**22 + 1))})
    far_too_long = running.http.post("/v1/datasets", files={"file": ("x.npz", b"0" * 2**23)})

    assert problem_of(answer, 413)["code"] == "too_large"
    assert problem_of(far_too_long, 413)["code"] == "too_large"
    assert running.state() == before


@pytest.mark.parametrize("path", ["/v1/jobs?limit=0", "/v1/jobs?limit=201", "/v1/jobs?status=lost"])
def test_a_query_that_breaks_a_rule_is_a_422_problem(http: httpx.Client, path: str) -> None:
    assert problem_of(http.get(path), 422)["errors"]


@pytest.mark.parametrize("path", ["/v1/jobs/%00", "/v1/jobs?cursor=%00", "/v1/models/%00", "/v1/trials/%00-1"])
def test_what_postgresql_cannot_store_is_a_422_problem(
    empty_postgresql_at_head: str, tmp_path: Path, path: str
) -> None:
    app = create_app(Settings(home=tmp_path, database_url=empty_postgresql_at_head))

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            return await http.get(path)

    answer = anyio.run(get)

    app.state.services.close()
    assert problem_of(answer, 422)["code"] == "invalid_input"


def test_an_idempotency_key_has_a_greatest_length(http: httpx.Client) -> None:
    body = {"model_id": "m", "devices": ["a"]}

    problem_of(http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k" * 201}), 422)
