"""What routes ask for."""

from typing import Annotated, cast

from fastapi import Depends, Query, Request
from sqlalchemy import Connection

from service.errors import NotFoundError
from service.services import Services
from service.store.identifiers import split_trial_id
from service.store.jobs import Jobs
from service.store.records import JobRecord, TrialRecord
from service.store.trials import Trials


def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


ServicesOf = Annotated[Services, Depends(_services)]
Limit = Annotated[int, Query(ge=1, le=200, description="Most items on a page")]
Cursor = Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before")]


def find_job(connection: Connection, identifier: str) -> JobRecord:
    """Return a job; raises ``NotFoundError``."""
    job = Jobs(connection).get(identifier)
    if job is None:
        raise NotFoundError("job", identifier)
    return job


def find_trial(connection: Connection, identifier: str) -> tuple[JobRecord, TrialRecord]:
    """Return a trial and its job; raises ``NotFoundError``."""
    parts = split_trial_id(identifier)
    job = None if parts is None else Jobs(connection).get(parts[0])
    trial = None if parts is None or job is None else Trials(connection).get(job.id, parts[1])
    if job is None or trial is None:
        raise NotFoundError("trial", identifier)
    return job, trial
