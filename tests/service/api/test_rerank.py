from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from compress.plan import LayerBits, Plan
from service.client import Client
from service.store.identifiers import new_id
from service.store.jobs import Jobs
from service.store.records import JobRecord
from service.store.tables import jobs
from tests.service.api.conftest import Running
from tests.service.api.rows import Dispatcher
from tests.service.api.test_errors import problem_of
from tests.service.api.uploads import digits, npz, post_dataset, post_model
from tests.service.events import DEVICE, ended, evaluation, prepared, trial
from workers.events import TrialEnded

OTHER = "stm32h743"


@pytest.fixture(scope="module")
def template(running: Running) -> JobRecord:
    model, dataset = post_model(running.http), post_dataset(running.http, npz(**digits()))
    body = {"model_id": model.json()["id"], "dataset_id": dataset.json()["id"], "devices": [DEVICE]}
    queued = running.http.post("/v1/jobs", json={"name": "small", **body}).json()
    with running.services.database.read() as connection:
        record = Jobs(connection).get(queued["id"])
    assert record is not None
    return record


@pytest.fixture
def job(running: Running, template: JobRecord) -> Iterator[JobRecord]:
    record = replace(template, id=new_id(), last_event=0)
    with running.services.database.write() as connection:
        Jobs(connection).submit(record)
    yield record
    with running.services.database.write() as connection:
        connection.execute(delete(jobs).where(jobs.c.id == record.id))


def rerank(http: httpx.Client, job: JobRecord, **body: Any) -> Any:
    answer = http.post(f"/v1/jobs/{job.id}/rerank", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["fronts"]


def test_other_limits_give_another_front_from_the_stored_prices(running: Running, job: JobRecord) -> None:
    rows = [*ended(0, 4.0, 0.89), *ended(1, 2.0, 0.8), *ended(2, 3.0, 0.7)]
    Dispatcher(running, job.id).report(*prepared(accuracy=0.895), *rows)

    (front,) = rerank(running.http, job, devices=[{"name": DEVICE, "limits": {"latency_ms": 3.5}}])

    assert [point["number"] for point in front["points"]] == [1]  # 0 is too slow, 2 is beaten by 1
    assert (front["trial_count"], front["feasible_count"], front["best"]) == (3, 2, None)


def test_the_best_costs_least_within_the_drop(running: Running, job: JobRecord) -> None:
    Dispatcher(running, job.id).report(*prepared(accuracy=0.895), *ended(0, 4.0, 0.89), *ended(1, 2.0, 0.8))

    (strict, lax) = (
        rerank(running.http, job, devices=[DEVICE], limits={"accuracy_drop": drop})[0]["best"]["number"]
        for drop in (0.01, 0.1)
    )

    assert (strict, lax) == (0, 1)


def test_another_device_prices_the_plans_as_an_estimate_does(running: Running, job: JobRecord) -> None:
    plan = Plan(layers={"stem": LayerBits(weight_bits=4, activation_bits=8)}).to_json()
    found = replace(trial(0, evaluation(1.0, 0.9)), plan=plan)
    Dispatcher(running, job.id).report(*prepared(), TrialEnded(trial=found))

    with Client(str(running.http.base_url)) as client:
        (front,) = client.rerank(job.id, [OTHER], x="energy_mj").fronts
        (expected,) = client.estimate(job.model_id, [OTHER], plan=plan).estimates

    assert front.refusals == ({} if expected.deployable else {expected.reason: 1})
    if expected.deployable:
        assert front.points[0].costs.energy_mj == expected.energy_mj


def test_an_unknown_device_is_named(running: Running, job: JobRecord) -> None:
    answer = running.http.post(f"/v1/jobs/{job.id}/rerank", json={"devices": ["abacus"]})

    problem_of(answer, 404)
    assert answer.json()["errors"][0]["field"] == "devices.0"


def test_an_unknown_cost_is_refused(running: Running, job: JobRecord) -> None:
    answer = running.http.post(f"/v1/jobs/{job.id}/rerank", json={"devices": [DEVICE], "x": "colour"})

    assert problem_of(answer, 422)["code"] == "unknown_axis"
