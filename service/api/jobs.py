"""``/v1/jobs``: submit, list, watch, control."""

from functools import partial
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Query, Response
from sqlalchemy import Connection

from service.api.answers import written
from service.api.dependencies import Cursor, Limit, ServicesOf, find_job
from service.api.job_schemas import JobCreate
from service.api.presenters import job_read, job_summary
from service.api.schemas import JobRead, JobSummary, Page
from service.fit_cache import FitUnknownError
from service.retention import discard
from service.services import Services
from service.store.jobs import Jobs
from service.store.records import JobRecord
from service.store.states import JobStatus
from service.submission import submit

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=200, description="Two requests with the same key queue one job"),
]


@router.post("", status_code=202, response_model=JobRead)
async def submit_job(services: ServicesOf, body: JobCreate, idempotency_key: IdempotencyKey = None) -> Response:
    """Queue a compression job and return at once.

    Follow ``GET /v1/jobs/{id}/events``; the front is final when ``status`` is ``done``. Unknown models, data sets and
    devices answer 404; a limit that nothing can keep answers 422 with what can be reached.
    """
    answer = partial(_submit, services, body, idempotency_key)
    try:
        return await anyio.to_thread.run_sync(partial(answer, may_wait=False), limiter=services.submission_threads)
    except FitUnknownError:
        return await anyio.to_thread.run_sync(answer)


@router.get("", response_model=Page[JobSummary])
def list_jobs(
    services: ServicesOf,
    status: Annotated[list[JobStatus] | None, Query(description="Only jobs of these statuses")] = None,
    model_id: Annotated[str | None, Query(max_length=64, description="Only jobs for this network")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """List jobs, the newest first."""
    with services.database.read() as connection:
        jobs = Jobs(connection)
        rows = jobs.page(statuses=status or (), model_id=model_id, before=cursor, limit=limit + 1)
        counts = jobs.trial_counts(rows[:limit])
    items = [job_summary(row, counts[row.id]) for row in rows[:limit]]
    return written(Page[JobSummary](items=items, next_cursor=rows[limit - 1].id if len(rows) > limit else None))


@router.get("/{job_id}", response_model=JobRead)
def read_job(services: ServicesOf, job_id: str) -> Response:
    """Return a job as it stands."""
    with services.database.read() as connection:
        job = _read(connection, find_job(connection, job_id))
    return written(job)


@router.post("/{job_id}/cancel")
def cancel_job(services: ServicesOf, job_id: str) -> JobRead:
    """End a job; what it has found stays. One that runs ends within seconds."""
    with services.database.write() as connection:
        find_job(connection, job_id)
        return _read(connection, Jobs(connection).cancel(job_id))


@router.post("/{job_id}/pause")
def pause_job(services: ServicesOf, job_id: str) -> JobRead:
    """Stop a job until it is resumed; a trial in flight is evaluated again then."""
    with services.database.write() as connection:
        find_job(connection, job_id)
        return _read(connection, Jobs(connection).pause(job_id))


@router.post("/{job_id}/resume")
def resume_job(services: ServicesOf, job_id: str) -> JobRead:
    """Let a paused job go on with the trials it has."""
    with services.database.write() as connection:
        find_job(connection, job_id)
        return _read(connection, Jobs(connection).resume(job_id))


@router.delete("/{job_id}", status_code=204)
def delete_job(services: ServicesOf, job_id: str) -> None:
    """Forget a job with its trials and checkpoints; one that runs must be cancelled first."""
    with services.database.write() as connection:
        find_job(connection, job_id)
        named = Jobs(connection).remove(job_id)
    discard(services.database, services.artifacts, named)


def _submit(services: Services, body: JobCreate, idempotency_key: str | None, *, may_wait: bool = True) -> Response:
    job, new = submit(
        services,
        body.to_spec(),
        model_id=body.model_id,
        dataset_id=body.dataset_id,
        idempotency_key=idempotency_key,
        request=body.model_dump(mode="json"),
        may_wait=may_wait,
    )
    headers = {"Location": f"/v1/jobs/{job.id}"}
    if new:
        return written(job_read(job, {}), status_code=202, headers=headers)
    with services.database.read() as connection:
        return written(_read(connection, job), headers=headers)


def _read(connection: Connection, job: JobRecord) -> JobRead:
    return job_read(job, Jobs(connection).trial_counts([job])[job.id])
