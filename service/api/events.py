"""``/v1/jobs/{id}/events``: what happens to a job, as server-sent events.

A stream holds neither a thread nor a connection to the database while it waits: it looks a few times a second.
"""

import json
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from hwmodels.errors import InputError
from service.api.dependencies import ServicesOf, find_job
from service.errors import NotFoundError
from service.services import Services
from service.store.events import Events
from service.store.records import EventRecord, JobRecord

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LOOK_S = 0.3
KEEPALIVE_S = 10.0
_PAGE = 500


@router.get("/{job_id}/events", response_class=StreamingResponse)
async def stream_events(
    services: ServicesOf, request: Request, job_id: str, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Stream a job's events from the first one, or from the one after ``Last-Event-ID``, until the job has ended.

    Kinds: ``status``, ``prepared``, ``trial``, ``front``, ``progress``, ``checkpoint``. A stream that has
    nothing more to say for good is answered with 204, which tells a browser not to come back.
    """
    after = _sequence(last_event_id)
    job, events = await anyio.to_thread.run_sync(_look, services, job_id, after)
    if job.ended and not events:
        return Response(status_code=204)
    return StreamingResponse(
        _stream(services, request, job_id, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(services: Services, request: Request, job_id: str, after: int) -> AsyncIterator[str]:
    quiet_s = 0.0
    while not await request.is_disconnected() and not request.app.state.stopping:
        try:
            job, events = await anyio.to_thread.run_sync(_look, services, job_id, after)
        except NotFoundError:  # deleted meanwhile
            return
        for event in events:
            after, quiet_s = event.sequence, 0.0
            yield _frame(event)
        if len(events) == _PAGE:
            continue
        if job.ended:
            return
        if quiet_s >= KEEPALIVE_S:
            quiet_s = 0.0
            yield ": still here\n\n"
        await anyio.sleep(LOOK_S)
        quiet_s += LOOK_S


def _look(services: Services, job_id: str, after: int) -> tuple[JobRecord, list[EventRecord]]:
    with services.database.read() as connection:
        job = find_job(connection, job_id)  # before the events: an end that is seen has its events
        return job, Events(connection).after(job_id, after, limit=_PAGE)


def _frame(event: EventRecord) -> str:
    data = json.dumps({**event.data, "at": event.created_at.isoformat()}, separators=(",", ":"))
    return f"id: {event.sequence}\nevent: {event.kind}\ndata: {data}\n\n"


def _sequence(last_event_id: str | None) -> int:
    if last_event_id is None:
        return 0
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 18:
        raise InputError("Last-Event-ID", "must be the id of an event of this stream", last_event_id)
    return int(last_event_id)
