"""Every route of the application, asked by everybody. A route without a row here fails."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import update
from starlette.routing import BaseRoute, Route

from hwmodels.profile import builtin_profiles
from service.api.guard import GUESSES_AT_ONCE
from service.app import create_app
from service.settings import Settings
from service.store.identifiers import new_id
from service.store.jobs import Jobs
from service.store.records import DeviceRecord
from service.store.rows import moment
from service.store.tables import LOCAL_OWNER, jobs
from service.store.uploads import Datasets, Devices, Models
from tests.service.access.conftest import Closed
from tests.service.pages.rows import DESCRIPTION, MCU, MODEL, PI, stored_job
from tests.service.store import rows
from workers.spec import Preprocessing

# What a stranger, somebody else's admin, and the owner under each scope are answered. Bodies are empty, so that those
# who may send one are told what it lacks (422); the job has ended, so that it can be cancelled once more and deleted.
PUBLIC = (200, 200, 200, 200, 200)
READS_OWN = (401, 404, 200, 200, 200)
READS_ANY = (401, 200, 200, 200, 200)  # a list, which is empty for others
SENDS = (401, 422, 403, 422, 422)
COMPUTES = (401, 422, 422, 422, 422)
ADMINISTERS = (401, 200, 403, 403, 200)

EXPECTED: Mapping[str, tuple[int, int, int, int, int]] = {
    "GET /healthz": PUBLIC,
    "GET /metrics": READS_ANY,
    "GET /readyz": PUBLIC,
    "GET /login": PUBLIC,
    "POST /login": (422, 422, 422, 422, 422),
    "GET /static/{name:path}": PUBLIC,
    "POST /logout": (401, 303, 303, 303, 303),
    "GET /openapi.json": READS_ANY,
    "POST /v1/models": SENDS,
    "GET /v1/models": READS_ANY,
    "GET /v1/models/{model_id}": READS_OWN,
    "DELETE /v1/models/{model_id}": (401, 404, 403, 409, 409),  # the job uses it
    "DELETE /v1/datasets/{dataset_id}": (401, 404, 403, 409, 409),
    "POST /v1/datasets": SENDS,
    "GET /v1/datasets": READS_ANY,
    "GET /v1/datasets/{dataset_id}": READS_OWN,
    "GET /v1/devices": READS_ANY,
    "GET /v1/devices/schema": READS_ANY,
    "GET /v1/devices/{name}": READS_OWN,
    "POST /v1/devices": SENDS,
    "POST /v1/estimates": COMPUTES,
    "POST /v1/jobs": SENDS,
    "GET /v1/jobs": READS_ANY,
    "GET /v1/jobs/{job_id}": READS_OWN,
    "POST /v1/jobs/{job_id}/rerank": COMPUTES,
    "POST /v1/jobs/{job_id}/cancel": (401, 404, 403, 200, 200),
    "POST /v1/jobs/{job_id}/pause": (401, 404, 403, 409, 409),
    "POST /v1/jobs/{job_id}/resume": (401, 404, 403, 409, 409),
    "DELETE /v1/jobs/{job_id}": (401, 404, 403, 204, 404),
    "GET /v1/jobs/{job_id}/events": (401, 404, 204, 204, 204),
    "GET /v1/jobs/{job_id}/trials": READS_OWN,
    "GET /v1/jobs/{job_id}/front": READS_OWN,
    "GET /v1/jobs/{job_id}/study": READS_OWN,
    "GET /v1/trials/{trial_id}/why": READS_OWN,
    "GET /v1/jobs/{job_id}/best": (401, 404, 409, 409, 409),  # nothing of what is verified is within the usual drop
    "GET /v1/jobs/{job_id}/best/checkpoint": (401, 404, 409, 409, 409),
    "GET /v1/trials/{trial_id}": READS_OWN,
    "GET /v1/trials/{trial_id}/checkpoint": (401, 404, 409, 409, 409),
    "GET /v1/problems": READS_ANY,
    "GET /v1/problems/{code}": READS_ANY,
    "GET /v1/jobs/{job_id}/sensitivity": READS_OWN,
    "POST /v1/tokens": (401, 422, 403, 403, 422),
    "GET /v1/tokens": ADMINISTERS,
    "DELETE /v1/tokens/{token_id}": (401, 404, 403, 403, 404),
    "GET /v1/audit": ADMINISTERS,
    "GET /": READS_ANY,
    "GET /parts/jobs": READS_ANY,
    "GET /jobs/{job_id}": READS_OWN,
    "GET /jobs/{job_id}/parts/progress": READS_OWN,
    "GET /jobs/{job_id}/parts/front": READS_OWN,
    "GET /jobs/{job_id}/parts/rerank": READS_OWN,
    "GET /jobs/{job_id}/chart": READS_OWN,
    "GET /trials/{trial_id}/panel": READS_OWN,
    "GET /trials/{trial_id}/parts/why": READS_OWN,
    "GET /models": READS_ANY,
    "GET /models/{model_id}": READS_OWN,
    "GET /devices": READS_ANY,
    "GET /devices/{name}": READS_OWN,
    "GET /new": READS_ANY,
}
DEVICE = "our-own-board"


def flat(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    """Yield plain routes; the framework keeps included routers as they are, and nothing may be mounted."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from flat(included.routes)
        else:
            assert isinstance(route, Route | APIRoute), f"{route} needs a test of its own"
            yield route


@pytest.fixture(scope="module")
def routes(sqlite_at_head: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    home = tmp_path_factory.mktemp("routes")
    shutil.copy(sqlite_at_head, home / "tightfit.db")
    app = create_app(Settings(home=home))
    yield {f"{method} {route.path}" for route in flat(app.routes) for method in (route.methods or set()) - {"HEAD"}}
    app.state.services.close()


@pytest.fixture
def parameters(closed: Closed, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Things of the owner ``local``, to put into paths."""
    services = closed.app.state.services
    profile = {**next(iter(builtin_profiles().values())).to_json(), "name": DEVICE}
    graph = services.artifacts.store_bytes(b"{}").digest
    about_data = {"images": 797, "shape": [8, 8, 1], "dtype": "uint8", "classes": 10}
    with closed.database.write() as connection:
        Models(connection).add(replace(MODEL, preprocessing=Preprocessing().to_json(), graph_artifact=graph))
        Datasets(connection).add(replace(rows.DATASET, description=about_data))
        job = stored_job(connection)
        Jobs(connection).cancel(job.id)
        profiles = {name: builtin_profiles()[name].to_json() for name in (PI, MCU)}
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(profiles=profiles))
        device = DeviceRecord(id=new_id(), owner=LOCAL_OWNER, name=DEVICE, profile=profile, created_at=moment())
        Devices(connection).add(device)
    # prices of a plan come from the ingestion process, which has tests of its own
    priced = SimpleNamespace(result={"workload": DESCRIPTION["workload"]})
    monkeypatch.setattr(services.ingest, "run", lambda *_: nullcontext(priced))
    return {
        "job_id": job.id,
        "trial_id": f"{job.id}-0",
        "model_id": job.model_id,
        "dataset_id": job.dataset_id,
        "name": DEVICE,
        "name:path": "tightfit.css",
        "token_id": "none",
        "code": "unknown_job",
    }


def test_every_route_has_a_row(routes: set[str]) -> None:
    assert routes == set(EXPECTED)


@pytest.mark.parametrize("route", EXPECTED)
def test_everybody_gets_the_answer_that_is_theirs(route: str, closed: Closed, parameters: dict[str, str]) -> None:
    method, path = route.split()
    for name, value in parameters.items():
        path = path.replace(f"{{{name}}}", value)
    stranger, other, *owner = EXPECTED[route]
    expected = {
        **dict.fromkeys(("no token", "unknown", "revoked", "expired"), stranger),
        **dict(zip(("wrong owner", "read", "submit", "admin"), (other, *owner), strict=True)),
    }
    assert len(expected) < GUESSES_AT_ONCE

    answers = {
        kind: closed.ask(method, path, closed.tokens[kind], headers={"Last-Event-ID": "999999"}) for kind in expected
    }

    assert {kind: answer.status_code for kind, answer in answers.items()} == expected
    own = {parameters[name] for name in ("job_id", "model_id", "dataset_id", "name")}
    for kind in ("no token", "unknown", "revoked", "expired", "wrong owner"):
        if answers[kind].status_code == 200 and "/devices/schema" not in path:
            assert not [value for value in own if value in answers[kind].text]
