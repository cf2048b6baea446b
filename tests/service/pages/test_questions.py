import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
from sqlalchemy import update

from service.app import create_app
from service.settings import Settings
from service.store.database import Database
from service.store.tables import jobs
from tests.service.pages.rows import MCU, PI, stored_job

Get = Callable[[str], httpx.Response]


@pytest.fixture
def job_id(database: Database) -> str:
    with database.write() as connection:
        job = stored_job(connection)
        # Prices of the job's own devices are stored: none has to be found out.
        connection.execute(update(jobs).values(profiles={PI: {}, MCU: {}}))
    return job.id


@pytest.fixture
def get(home: Path) -> Iterator[Get]:
    app = create_app(Settings(home=home))

    async def ask(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8321") as client:
            return await client.get(path)

    yield lambda path: anyio.run(partial(ask, path))
    app.state.services.close()


def shown(text: str) -> list[str]:
    return re.findall(r'<th scope="row"><a[^>]*>([^<]*)</a>', text)


def test_other_limits_show_another_front(get: Get, job_id: str) -> None:
    # Measured on the Pi in ms and accuracy: 1 (1, 0.91), 4 (2, 0.95), 3 (3.5, 0.97), 5 (5, 0.98).
    free = get(f"/jobs/{job_id}/parts/rerank?device={PI}&x=&latency_ms=&energy_mj=")
    tight = get(f"/jobs/{job_id}/parts/rerank?device={PI}&x=latency_ms&latency_ms=2.5")

    assert shown(free.text) == ["trial 5", "trial 3", "trial 4", "trial 1"]
    assert shown(tight.text) == ["trial 4", "trial 1"]
    assert "latency ≤ 2.50 ms" in tight.text


def test_without_a_device_the_jobs_own_are_priced(get: Get, job_id: str) -> None:
    text = get(f"/jobs/{job_id}/parts/rerank").text

    assert re.findall("<h3>([^<]*)</h3>", text) == [PI, MCU]


@pytest.mark.parametrize("query", ["device=abacus", f"device={PI}&x=colour"])
def test_what_is_not_known_is_named(get: Get, job_id: str, query: str) -> None:
    answer = get(f"/jobs/{job_id}/parts/rerank?{query}")

    assert answer.status_code in (404, 422)
    assert query.rpartition("=")[2] in answer.text


def test_a_trial_that_is_not_there_has_no_reasons(get: Get, job_id: str) -> None:
    assert get(f"/trials/{job_id}-99/parts/why?device=&other=").status_code == 404
