import json
import threading
import time
from typing import Any

import anyio
import httpx
import pytest
from sqlalchemy import event

from service.api.event_hub import EventHub
from service.event_stream import ServerEvent, events
from tests.service.api.conftest import Running, wait_until
from tests.service.api.rows import Dispatcher
from tests.service.api.test_errors import problem_of
from tests.service.api.test_jobs import body, job, template
from tests.service.events import checkpoint, ended, prepared

STREAMS = 100

__all__ = ["body", "job", "template"]  # fixtures


def read(http: httpx.Client, job: dict[str, Any], *, after: str | None = None) -> list[ServerEvent]:
    headers = {} if after is None else {"Last-Event-ID": after}
    with http.stream("GET", f"/v1/jobs/{job['id']}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(events(answer.iter_bytes()))


def finished(running: Running, job: dict[str, Any]) -> None:
    dispatcher = Dispatcher(running, job["id"])
    dispatcher.report(*prepared(), *ended(0, 1.0, 0.9))
    dispatcher.progress(1, 1)
    dispatcher.report(checkpoint(0))
    dispatcher.end()


def test_a_stream_tells_the_whole_story_and_ends_with_the_job(running: Running, job: dict[str, Any]) -> None:
    finished(running, job)

    story = read(running.http, job)

    assert [told.id for told in story] == [str(number) for number in range(1, len(story) + 1)]
    assert [(told.event, json.loads(told.data).get("status")) for told in story] == [
        ("status", "queued"),
        ("status", "preparing"),
        ("prepared", None),
        ("status", "searching"),
        ("trial", "running"),
        ("trial", "done"),
        ("front", None),
        ("progress", None),
        ("checkpoint", None),
        ("status", "done"),
    ]


def test_a_stream_resumes_after_the_last_event_that_came(running: Running, job: dict[str, Any]) -> None:
    finished(running, job)
    story = read(running.http, job)

    assert read(running.http, job, after="4") == story[4:]


def test_a_stream_with_nothing_more_to_say_sends_browsers_away(running: Running, job: dict[str, Any]) -> None:
    finished(running, job)
    last = read(running.http, job)[-1].id

    answer = running.http.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": last})

    assert answer.status_code == 204


def test_events_arrive_while_they_happen(running: Running, job: dict[str, Any]) -> None:
    seen: list[ServerEvent] = []

    def follow() -> None:
        with httpx.stream("GET", f"{running.http.base_url}/v1/jobs/{job['id']}/events", timeout=30) as answer:
            seen.extend(told for told in _noting(answer, seen))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    wait_until(lambda: len(seen) == 1)
    dispatcher = Dispatcher(running, job["id"])
    dispatcher.report(*prepared())
    wait_until(lambda: len(seen) == 4)
    dispatcher.report(*ended(0, 1.0, 0.9))
    dispatcher.end()
    thread.join(10)

    assert not thread.is_alive()
    assert [told.event for told in seen] == [
        "status",
        "status",
        "prepared",
        "status",
        "trial",
        "trial",
        "front",
        "status",
    ]


def _noting(answer: httpx.Response, seen: list[ServerEvent]) -> list[ServerEvent]:
    for told in events(answer.iter_bytes()):
        seen.append(told)
    return []


@pytest.mark.parametrize("after", ["x", "-1", "9" * 30])
def test_an_id_that_is_none_is_refused(http: httpx.Client, job: dict[str, Any], after: str) -> None:
    answer = http.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": after})

    assert problem_of(answer, 422)["errors"][0]["field"] == "Last-Event-ID"  # type: ignore[index]


def test_a_stream_ends_when_its_job_is_deleted(running: Running, job: dict[str, Any]) -> None:
    with running.http.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
        chunks = answer.iter_bytes()
        first = next(events(chunks))
        assert running.http.delete(f"/v1/jobs/{job['id']}").status_code == 204

        rest = list(chunks)  # a stream that is cut off raises

    assert json.loads(first.data)["status"] == "queued"
    assert rest == []


def test_a_job_that_is_followed_while_the_reader_looks_is_not_taken_for_gone(running: Running) -> None:
    async def follow() -> tuple[bool, bool]:
        hub = EventHub(running.services.database)
        with hub.follow("old", last=1) as old, hub.follow("new", last=1) as new:
            hub._tell({"old": 1}, {}, {})  # it looked for the old one alone
            return old.gone, new.gone

    assert anyio.run(follow) == (True, False)


def test_a_hundred_streams_need_one_look_and_hear_of_it_within_a_second(running: Running, job: dict[str, Any]) -> None:
    engine, queries = running.services.database.reader, 0
    before = threading.active_count()

    def count(*_: object) -> None:
        nonlocal queries
        queries += 1

    async def follow(client: httpx.AsyncClient, arrived: list[float], ready: list[int]) -> None:
        async with client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
            async for line in answer.aiter_lines():
                if '"queued"' in line:
                    ready.append(1)
                if line == "event: prepared":
                    arrived.append(time.monotonic())
                    return

    async def everybody() -> tuple[list[float], float, int, int]:
        arrived: list[float] = []
        ready: list[int] = []
        limits = httpx.Limits(max_connections=STREAMS)
        async with (
            httpx.AsyncClient(base_url=str(running.http.base_url), timeout=30, limits=limits) as client,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(STREAMS):
                tasks.start_soon(follow, client, arrived, ready)
            with anyio.fail_after(30):
                while len(ready) < STREAMS:
                    await anyio.sleep(0.05)
            event.listen(engine, "before_cursor_execute", count)
            await anyio.sleep(1.0)
            event.remove(engine, "before_cursor_execute", count)
            waiting = threading.active_count()
            told = time.monotonic()
            await anyio.to_thread.run_sync(lambda: Dispatcher(running, job["id"]).report(*prepared()))
        return arrived, told, queries, waiting

    arrived, told, looked, waiting = anyio.run(everybody)

    assert len(arrived) == STREAMS
    assert max(arrived) - told < 3.0  # seconds, on a busy machine
    assert looked < STREAMS / 4  # of 100 streams that look by themselves each would
    assert waiting - before < STREAMS / 2
    assert running.services.database.reader.pool.checkedout() <= 1  # type: ignore[attr-defined]
