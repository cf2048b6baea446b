"""What routes ask for."""

from typing import Annotated, cast

from fastapi import Depends, Query, Request
from sqlalchemy import Connection

from hwmodels.errors import InputError
from service.access.principal import Principal
from service.errors import NotFoundError
from service.services import Services
from service.store.identifiers import split_trial_id
from service.store.jobs import Jobs
from service.store.records import JobRecord, TrialRecord
from service.store.trials import Trials

PRINCIPAL = "tightfit.principal"
"""Where ``service.api.guard`` leaves in a request's scope who asks."""
NOBODY = ""
"""An owner of nothing."""


async def _principal(request: Request) -> Principal:
    return cast(Principal, request.scope[PRINCIPAL])


async def _services(request: Request) -> Services:
    services = cast(Services, request.app.state.services)
    principal: Principal | None = request.scope.get(PRINCIPAL)  # none: a route that strangers may ask
    return services.for_owner(NOBODY if principal is None else principal.owner)


ServicesOf = Annotated[Services, Depends(_services)]
"""The service as the one who asks may see it: every transaction opened by it is bound to their rows."""
PrincipalOf = Annotated[Principal, Depends(_principal)]
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


def find_compared(
    connection: Connection, identifier: str, other: str | None
) -> tuple[JobRecord, TrialRecord, TrialRecord | None]:
    """Return a trial's job, the trial, and the one of the same job that it is compared with, if any.

    Raises:
        NotFoundError: There is no such trial.
        InputError: The other is of another job, whether there is one like that or not.
    """
    job, trial = find_trial(connection, identifier)
    if other is None:
        return job, trial, None
    parts = split_trial_id(other)
    if parts is None or parts[0] != job.id:
        raise InputError("other", "must be a trial of the same job", other)
    return job, trial, find_trial(connection, other)[1]
