from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from service.services import Services
from service.store.identifiers import new_id
from service.store.jobs import Jobs
from service.store.leases import Leases
from service.store.records import JobRecord, ModelRecord
from service.store.tables import jobs
from service.uploads import find_model
from tests.service.api.conftest import Running
from tests.service.api.rows import Dispatcher
from tests.service.api.test_errors import problem_of
from tests.service.api.uploads import WEIGHTS, digits, npz, post_dataset, post_model
from tests.service.events import DEVICE, checkpoint, ended, prepared
from workers.events import ChoiceEffect, SensitivityMeasured


@pytest.fixture(scope="module")
def body(running: Running) -> dict[str, Any]:
    model, dataset = post_model(running.http), post_dataset(running.http, npz(**digits()))
    return {
        "name": "small",
        "model_id": model.json()["id"],
        "dataset_id": dataset.json()["id"],
        "devices": [DEVICE],
        "limits": {"latency_ms": 1.0},
        "budget": {"trials": 20},
    }


@pytest.fixture(scope="module")
def template(running: Running, body: dict[str, Any]) -> JobRecord:
    """A job that went the whole way of a submission; the fit check in it takes a while."""
    queued = running.http.post("/v1/jobs", json=body).json()
    with running.services.database.read() as connection:
        record = Jobs(connection).get(queued["id"])
    assert record is not None
    return record


@pytest.fixture
def job(running: Running, template: JobRecord) -> Iterator[dict[str, Any]]:
    record = replace(template, id=new_id(), last_event=0)
    with running.services.database.write() as connection:
        Jobs(connection).submit(record)
    yield running.http.get(f"/v1/jobs/{record.id}").json()
    with running.services.database.write() as connection:
        connection.execute(delete(jobs).where(jobs.c.id == record.id))


def test_a_job_is_queued_with_all_that_was_asked(http: httpx.Client, job: dict[str, Any]) -> None:
    assert job["status"] == "queued"
    assert job["devices"][0]["limits"]["latency_ms"] == 1.0
    assert job["objectives"] == ["accuracy", "latency_ms", "model_bytes"]
    assert (job["budget"]["trials"], job["budget"]["minutes"]) == (20, None)
    assert job["ranges"][DEVICE]["latency_ms"]["smallest"] < 1.0
    assert http.get(f"/v1/jobs/{job['id']}").json() == job


def test_a_job_without_data_is_scored_by_agreement_and_no_list_shows_its_data(
    http: httpx.Client, body: dict[str, Any]
) -> None:
    model = post_model(http, WEIGHTS.read_bytes(), name="w.safetensors", architecture="digits_resnet").json()
    before = http.get("/v1/datasets").json()

    queued = http.post("/v1/jobs", json={**body, "model_id": model["id"], "dataset_id": None, "data_free": True})

    assert queued.status_code == 202
    assert (queued.json()["dataset_id"], queued.json()["score"]) == (None, "agreement")
    assert http.get("/v1/datasets").json() == before
    assert "no data, on images made from it" in http.get(f"/jobs/{queued.json()['id']}").text


def test_chosen_numerics_go_with_the_job(running: Running, http: httpx.Client, body: dict[str, Any]) -> None:
    queued = http.post("/v1/jobs", json={**body, "numerics": {"scale_format": "power_of_two", "other_bits": 6}}).json()

    with running.services.database.read() as connection:
        record = Jobs(connection).get(queued["id"])
    assert record is not None
    assert record.spec["numerics"] == {"scale_format": "power_of_two", "other_bits": 6}


@pytest.mark.parametrize(("said", "steps"), [({}, 100), ({"imitation_steps": 0}, 0), ({"imitation_steps": 250}, 250)])
def test_a_job_says_how_long_its_replacements_are_trained(
    running: Running, http: httpx.Client, body: dict[str, Any], said: dict[str, int], steps: int
) -> None:
    queued = http.post("/v1/jobs", json={**body, **said}).json()

    with running.services.database.read() as connection:
        record = Jobs(connection).get(queued["id"])
    assert record is not None
    assert record.spec["imitation_steps"] == steps


def test_the_limits_of_a_device_go_before_those_of_the_job(http: httpx.Client, body: dict[str, Any]) -> None:
    devices = [{"name": DEVICE, "limits": {"latency_ms": 2.0}}, "stm32h743"]
    limits = {"latency_ms": 50.0, "model_bytes": 10**6}

    found = http.post("/v1/jobs", json={**body, "devices": devices, "limits": limits}).json()["devices"]

    assert [row["limits"]["latency_ms"] for row in found] == [2.0, 50.0]
    assert [row["limits"]["model_bytes"] for row in found] == [10**6, 10**6]


def test_one_key_is_one_job_whatever_happens_to_the_answer(http: httpx.Client, body: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "exactly once"}

    first = http.post("/v1/jobs", json=body, headers=key)
    again = http.post("/v1/jobs", json=body, headers=key)
    other = http.post("/v1/jobs", json={**body, "seed": 1}, headers=key)

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json()
    assert problem_of(other, 409)["code"] == "idempotency_key_reused"


def test_a_model_that_is_deleted_during_a_submission_is_a_conflict(
    running: Running, body: dict[str, Any], template: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(services: Services, identifier: str, *, field: str) -> ModelRecord:
        return replace(find_model(services, identifier, field=field), id=new_id())

    monkeypatch.setattr("service.submission.find_model", gone)

    assert problem_of(running.http.post("/v1/jobs", json=body), 409)["code"] == "conflict"


def test_jobs_are_listed_by_status(http: httpx.Client, job: dict[str, Any]) -> None:
    http.post(f"/v1/jobs/{job['id']}/pause")

    paused = http.get("/v1/jobs?status=paused&limit=200").json()["items"]
    ended_or_paused = http.get("/v1/jobs?status=paused&status=done&limit=200").json()["items"]
    queued = http.get("/v1/jobs?status=queued&limit=200").json()["items"]

    assert job["id"] in [row["id"] for row in paused]
    assert job["id"] in [row["id"] for row in ended_or_paused]
    assert job["id"] not in [row["id"] for row in queued]


def test_a_waiting_job_is_paused_resumed_cancelled_and_deleted(http: httpx.Client, job: dict[str, Any]) -> None:
    path = f"/v1/jobs/{job['id']}"

    statuses = [http.post(f"{path}/{word}").json()["status"] for word in ("pause", "resume", "cancel", "cancel")]

    assert statuses == ["paused", "queued", "cancelled", "cancelled"]
    assert problem_of(http.post(f"{path}/resume"), 409)["code"] == "illegal_transition"
    assert http.delete(path).status_code == 204
    assert http.get(path).status_code == 404


def test_a_running_job_is_asked_to_stop(running: Running, job: dict[str, Any]) -> None:
    dispatcher = Dispatcher(running, job["id"])
    dispatcher.report(*prepared())

    asked = running.http.post(f"/v1/jobs/{job['id']}/cancel").json()

    assert (asked["status"], asked["requested"]) == ("searching", "cancel")
    assert problem_of(running.http.delete(f"/v1/jobs/{job['id']}"), 409)["code"] == "job_is_running"


def test_a_job_shows_what_its_dispatcher_reports(running: Running, job: dict[str, Any]) -> None:
    dispatcher = Dispatcher(running, job["id"])
    dispatcher.report(*prepared(), *ended(0, 5.0, 0.8), *ended(1, 9.0, None, violations={"latency_ms": 8.0}))
    dispatcher.progress(2, 20)

    found = running.http.get(f"/v1/jobs/{job['id']}").json()

    assert found["status"] == "searching"
    assert found["trial_counts"] == {"done": 1, "infeasible": 1, "stopped": 0, "failed": 0, "running": 0}
    assert found["progress"] == {"done": 2, "total": 20, "seconds_left": 1.0, "unit": "trials"}
    assert found["baseline"]["accuracy"] == 0.9
    assert found["variables"] == {"weights a": [2, 4]}


def test_trials_come_in_pages_by_number(running: Running, job: dict[str, Any]) -> None:
    dispatcher = Dispatcher(running, job["id"])
    dispatcher.report(*prepared(), *(event for number in range(5) for event in ended(number, 5.0, 0.8)))
    path = f"/v1/jobs/{job['id']}/trials"

    first = running.http.get(f"{path}?limit=3").json()
    rest = running.http.get(f"{path}?limit=3&cursor={first['next_cursor']}").json()

    assert [row["number"] for row in first["items"] + rest["items"]] == [0, 1, 2, 3, 4]
    assert rest["next_cursor"] is None
    assert problem_of(running.http.get(f"{path}?cursor=x"), 422)["code"] == "invalid_input"


def test_the_front_has_what_nothing_beats(running: Running, job: dict[str, Any]) -> None:
    dispatcher = Dispatcher(running, job["id"])
    dispatcher.report(
        *prepared(),
        *ended(0, 4.0, 0.8, label="uniform 8 bit"),
        *ended(1, 2.0, 0.5),
        *ended(2, 3.0, 0.5),  # beaten by 1
        *ended(3, 5.0, 0.9, violations={"latency_ms": 4.0}),  # breaks a limit
        *ended(4, 6.0, None, violations={"latency_ms": 5.0}),  # never measured
        *ended(5, 4.0, 0.8),  # the same as 0
    )

    front = running.http.get(f"/v1/jobs/{job['id']}/front").json()

    assert (front["device"], front["x"], front["y"]) == (DEVICE, "latency_ms", "accuracy")
    assert [row["number"] for row in front["points"]] == [1, 0]
    assert [row["label"] for row in front["baselines"]] == ["uniform 8 bit"]
    assert front["float"]["accuracy"] == 0.9
    assert front["feasible_count"] == 4
    # reference: a tenth beyond the dearest measured (5.0 → 5.5); area (5.5-4)·0.8 + (4-2)·0.5
    assert front["reference"] == {"latency_ms": pytest.approx(5.5), "accuracy": 0.0}
    assert front["hypervolume"] == pytest.approx(1.5 * 0.8 + 2.0 * 0.5)


@pytest.mark.parametrize(
    ("query", "code"),
    [("device=toaster", "unknown_name"), ("x=beauty", "unknown_axis"), ("y=latency_ms", "unknown_axis")],
)
def test_a_front_along_nothing_known_is_refused(http: httpx.Client, job: dict[str, Any], query: str, code: str) -> None:
    assert problem_of(http.get(f"/v1/jobs/{job['id']}/front?{query}"), 422)["code"] == code


def test_the_best_trial_is_the_cheapest_verified_one_within_the_drop(running: Running, job: dict[str, Any]) -> None:
    path = f"/v1/jobs/{job['id']}/best"
    dispatcher = Dispatcher(running, job["id"])

    def reason() -> str:
        problem = problem_of(running.http.get(path), 409)
        assert problem["code"] == "no_best_trial"
        return str(problem["detail"])

    assert "has not been measured yet" in reason()
    dispatcher.report(*prepared(accuracy=0.9))
    assert "no trial has been measured yet" in reason()
    dispatcher.report(*ended(0, 5.0, 0.9, violations={"latency_ms": 4.0}))
    assert f"keeps every limit on {DEVICE}" in reason()
    dispatcher.report(*ended(1, 1.0, 0.88))
    assert "within 0.01" in reason()
    dispatcher.report(*ended(2, 3.0, 0.89), *ended(3, 3.0, 0.9), *ended(4, 2.0, 0.9), *ended(5, 4.0, 0.9))
    assert "checkpoints are verified when its search has ended" in reason()
    dispatcher.report(checkpoint(2), checkpoint(3), checkpoint(4, verified=False), checkpoint(5))
    dispatcher.end()

    best = running.http.get(path).json()
    looser = running.http.get(f"{path}?accuracy_drop=0.05").json()

    assert best["number"] == 3  # 4 is cheaper but disagreed, 2 is equally cheap but less accurate
    assert best["checkpoint"]["verified"] is True
    assert looser["number"] == 3  # 1 has no checkpoint


def test_checkpoints_are_downloaded_as_they_were_stored(running: Running, job: dict[str, Any]) -> None:
    dispatcher = Dispatcher(running, job["id"])
    dispatcher.report(*prepared(), *ended(0, 1.0, 0.9), *ended(1, 2.0, 0.9), *ended(2, 2.0, 0.9))
    dispatcher.report(checkpoint(0), checkpoint(1, verified=False))
    http, trial = running.http, f"/v1/trials/{job['id']}"

    packed = http.get(f"{trial}-0/checkpoint")
    onnx = http.get(f"{trial}-0/checkpoint?format=onnx")
    best = http.get(f"/v1/jobs/{job['id']}/best/checkpoint")

    assert (packed.content, onnx.content, best.content) == (b"packed 0", b"onnx 0", b"packed 0")
    assert packed.headers["content-disposition"] == 'attachment; filename="trial-0-packed.zip"'
    assert problem_of(http.get(f"{trial}-1/checkpoint"), 409)["code"] == "checkpoint_not_verified"
    assert "3 images differ" in http.get(f"{trial}-1/checkpoint").json()["detail"]
    assert problem_of(http.get(f"{trial}-2/checkpoint"), 409)["code"] == "no_checkpoint"
    assert problem_of(http.get(f"{trial}-0/checkpoint?format=pickle"), 422)["code"] == "invalid_input"


def test_a_trial_comes_with_its_price_per_kernel(running: Running, job: dict[str, Any]) -> None:
    Dispatcher(running, job["id"]).report(*prepared(), *ended(0, 1.0, 0.9))

    found = running.http.get(f"/v1/trials/{job['id']}-0").json()

    assert found["id"] == f"{job['id']}-0"
    assert sum(row["macs"] for row in found["layers"][DEVICE]) > 0


def test_a_dispatcher_that_lost_its_lease_writes_nothing(running: Running, job: dict[str, Any]) -> None:
    late = Dispatcher(running, job["id"])
    with running.services.database.write() as connection:
        leases = Leases(connection, seconds=60)
        leases.release(leases.hold(job["id"], late.job.epoch))
    Dispatcher(running, job["id"])

    with pytest.raises(Exception, match="was lost"):
        late.report(*prepared())

    assert running.http.get(f"/v1/jobs/{job['id']}").json()["status"] == "queued"


def test_sensitivities_are_shown_by_layer_with_what_they_are_counted_from(
    running: Running, job: dict[str, Any]
) -> None:
    rows = (
        ChoiceEffect(variable="", choice=None, plan_digest="a" * 64, divergence=0.25, loss=0.5),
        ChoiceEffect(variable="weights layer1.0.conv1", choice=2, plan_digest="b" * 64, divergence=1.5, loss=2.0),
        ChoiceEffect(variable="operator layer1.0", choice="skip", plan_digest="c" * 64, divergence=3.0, loss=4.0),
    )
    nothing = running.http.get(f"/v1/jobs/{job['id']}/sensitivity").json()
    Dispatcher(running, job["id"]).report(SensitivityMeasured(rows=rows))

    found = running.http.get(f"/v1/jobs/{job['id']}/sensitivity").json()

    assert nothing == {"base_divergence": None, "base_loss": None, "choices": []}
    assert found == {
        "base_divergence": 0.25,
        "base_loss": 0.5,
        "choices": [
            {"kind": "weights", "name": "layer1.0.conv1", "choice": 2, "divergence": 1.5, "loss": 2.0},
            {"kind": "operator", "name": "layer1.0", "choice": "skip", "divergence": 3.0, "loss": 4.0},
        ],
    }


def test_a_job_says_when_its_images_cannot_rank_candidates(running: Running, job: dict[str, Any]) -> None:
    Dispatcher(running, job["id"]).report(*prepared(accuracy=1.0))

    found = running.http.get(f"/v1/jobs/{job['id']}").json()

    assert found["signal"] == "divergence"
    assert "100.00% of the 100 search images" in found["warning"]
