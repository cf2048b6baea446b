from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete

from compress.plan import LayerBits, Plan
from service.client import Client, ProblemError
from service.store.identifiers import new_id, trial_id
from service.store.jobs import Jobs
from service.store.records import JobRecord
from service.store.tables import jobs
from tests.service.api.conftest import Running
from tests.service.api.rows import Dispatcher
from tests.service.api.uploads import digits, npz, post_dataset, post_model
from tests.service.events import DEVICE, evaluation, prepared, trial
from workers.events import ChoiceEffect, Prepared, SensitivityMeasured, TrialEnded

WIDTHS = (2, 4, 8)


def plan(layer: str, bits: int) -> dict[str, Any]:
    return Plan(layers={layer: LayerBits(weight_bits=bits, activation_bits=8)}).to_json()


@pytest.fixture(scope="module")
def model(running: Running) -> dict[str, Any]:
    found: dict[str, Any] = running.http.get(f"/v1/models/{post_model(running.http).json()['id']}").json()
    return found


@pytest.fixture(scope="module")
def layer(model: dict[str, Any]) -> str:
    return str(model["layers"][0]["name"])


@pytest.fixture(scope="module")
def job(running: Running, model: dict[str, Any], layer: str) -> Iterator[JobRecord]:
    """A job with an 8-bit trial (0) and a 4-bit one (1) that knows what 2 bits lose."""
    dataset = post_dataset(running.http, npz(**digits()))
    body = {"model_id": model["id"], "dataset_id": dataset.json()["id"], "devices": [DEVICE]}
    queued = running.http.post("/v1/jobs", json={"name": "small", **body}).json()
    with running.services.database.read() as connection:
        template = Jobs(connection).get(queued["id"])
    assert template is not None
    record = replace(template, id=new_id(), last_event=0)
    with running.services.database.write() as connection:
        Jobs(connection).submit(record)
    base = ChoiceEffect(variable="", choice=None, plan_digest="a", divergence=0.1, loss=0.0)
    two = ChoiceEffect(variable=f"weights {layer}", choice=2, plan_digest="b", divergence=0.9, loss=0.0)
    events = [
        replace(event, variables={f"weights {layer}": WIDTHS}) if isinstance(event, Prepared) else event
        for event in prepared()
    ]
    trials = [
        TrialEnded(trial=replace(trial(n, evaluation(1.0, 0.9)), plan=plan(layer, bits)))
        for n, bits in enumerate((8, 4))
    ]
    Dispatcher(running, record.id).report(*events, SensitivityMeasured(rows=(base, two)), *trials)
    yield record
    with running.services.database.write() as connection:
        connection.execute(delete(jobs).where(jobs.c.id == record.id))


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(str(running.http.base_url)) as client:
        yield client


def test_savings_against_the_float_network_add_up_to_the_difference_of_the_prices(
    client: Client, job: JobRecord, layer: str
) -> None:
    found = client.why(trial_id(job.id, 1))

    float_price, price = (client.estimate(job.model_id, [DEVICE], plan=p).estimates[0] for p in (None, plan(layer, 4)))
    assert sum(row.saved_latency_ms for row in found.layers) == pytest.approx(float_price.latency_ms - price.latency_ms)
    assert sum(row.saved_bytes for row in found.layers) == float_price.model_bytes - price.model_bytes
    assert next(row for row in found.layers if row.layer == layer).choices == {"weights": "4", "activations": "8"}


def test_two_trials_differ_where_their_plans_do(client: Client, job: JobRecord, layer: str) -> None:
    found = client.why(trial_id(job.id, 1), other=trial_id(job.id, 0))

    (row,) = (row for row in found.layers if row.choices)
    assert (row.layer, row.choices, row.instead_of) == (layer, {"weights": "4"}, {"weights": "8"})


def test_what_a_choice_loses_follows_from_what_was_measured(client: Client, job: JobRecord, layer: str) -> None:
    found = client.why(trial_id(job.id, 1), other=trial_id(job.id, 0))

    # 2 bits lose 0.9 - 0.1 of the base; with two bits more a sixteenth is left. 8 bits, the dearest, lose nothing.
    assert next(row for row in found.layers if row.layer == layer).predicted_loss == pytest.approx(0.8 / 16)


def test_the_other_trial_must_be_of_the_same_job(client: Client, job: JobRecord) -> None:
    with pytest.raises(ProblemError, match="other: must be a trial of the same job") as raised:
        client.why(trial_id(job.id, 1), other=trial_id(new_id(), 0))

    assert raised.value.status == 422  # whether such a trial exists is not told


def test_the_other_trial_must_exist(client: Client, job: JobRecord) -> None:
    with pytest.raises(ProblemError) as raised:
        client.why(trial_id(job.id, 1), other=trial_id(job.id, 99))

    assert raised.value.status == 404
