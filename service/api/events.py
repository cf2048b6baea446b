"""``/v1/jobs/{id}/events``: what happens to a job, as server-sent events.

A stream holds neither a thread nor a connection to the database while it waits: one reader looks for all of them.
"""

import time
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from hwmodels.errors import InputError
from service.api.dependencies import ServicesOf, find_job
from service.api.event_hub import PAGE, EventHub, frame
from service.errors import NotFoundError
from service.services import Services
from service.store.events import Events
from service.store.records import EventRecord, JobRecord

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

KEEPALIVE_S = 10.0
WAIT_S = 1.0  # how long a stream may not notice that its reader has left
LONGEST_S = 900.0  # then the client comes back with its token, which may have been revoked


@router.get("/{job_id}/events", response_class=StreamingResponse)
async def stream_events(
    services: ServicesOf, request: Request, job_id: str, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Stream a job's events from the first one, or from the one after ``Last-Event-ID``, until the job has ended.

    Kinds: ``status``, ``prepared``, ``groundwork``, ``sensitivity``, ``trial``, ``front``, ``progress``,
    ``checkpoint``. A stream that has nothing more to say for good is answered with 204, which tells a browser not to
    come back.
    """
    after = _sequence(last_event_id)
    job, events = await anyio.to_thread.run_sync(_look, services, job_id, after)
    if job.ended and not events:
        return Response(status_code=204)
    return StreamingResponse(
        _stream(services, request, job_id, after, job.last_event),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(services: Services, request: Request, job_id: str, after: int, last: int) -> AsyncIterator[str]:
    hub: EventHub = request.app.state.hub
    until = time.monotonic() + LONGEST_S
    told = time.monotonic()
    with hub.follow(job_id, last=last) as channel:
        while time.monotonic() < until and not request.app.state.stopping and not await request.is_disconnected():
            frames = channel.after(after)
            if frames is None:
                try:
                    _, events = await anyio.to_thread.run_sync(_look, services, job_id, after)
                except NotFoundError:  # deleted meanwhile
                    return
                frames = [(event.sequence, frame(event)) for event in events]
            for sequence, text in frames:
                after = sequence
                yield text
            if frames:
                told = time.monotonic()
                continue
            if channel.gone or channel.ended:
                return
            if time.monotonic() - told > KEEPALIVE_S:
                told = time.monotonic()
                yield ": still here\n\n"
            await channel.wait(WAIT_S)


def _look(services: Services, job_id: str, after: int) -> tuple[JobRecord, list[EventRecord]]:
    with services.database.read() as connection:
        job = find_job(connection, job_id)  # before the events: an end that is seen has its events
        return job, Events(connection).after(job_id, after, limit=PAGE)


def _sequence(last_event_id: str | None) -> int:
    if last_event_id is None:
        return 0
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 18:
        raise InputError("Last-Event-ID", "must be the id of an event of this stream", last_event_id)
    return int(last_event_id)
