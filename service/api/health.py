"""``/healthz``, ``/readyz`` and ``/metrics``."""

import logging
from collections.abc import Callable

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from service.api.dependencies import ServicesOf
from service.api.schemas import Health
from service.observability.metrics import CONTENT_TYPE, Requests, stored_lines
from service.services import Services
from service.store.dispatchers import all_dispatchers
from service.store.migrate import is_current

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


class NotReadyError(Exception):
    """Something is not as it must be, in words that anybody may read."""


@router.get("/healthz")
async def healthz() -> Health:
    """Say that the process answers; needs nothing else."""
    return Health(status="ok")


@router.get("/readyz")
async def readyz(services: ServicesOf, response: Response) -> Health:
    """Say whether requests can be served: database, its tables, artefacts. 503 if not.

    ``dispatch`` says whether somebody runs jobs, and whether Ray answers there; without that, jobs wait.
    """
    checks = await anyio.to_thread.run_sync(_check, services, limiter=services.readiness_threads)
    ready = all(answer == "ok" for name, answer in checks.items() if name != "dispatch")
    response.status_code = 200 if ready else 503
    return Health(status="ok" if ready else "unavailable", checks=checks)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(services: ServicesOf, request: Request) -> PlainTextResponse:
    """Return Prometheus metrics: answers of this process, jobs, trials of those that run, dispatchers."""
    requests: Requests = request.app.state.requests
    with services.database.read() as connection:
        lines = [*requests.lines(), *stored_lines(connection)]
    return PlainTextResponse("\n".join([*lines, ""]), media_type=CONTENT_TYPE)


def _check(services: Services) -> dict[str, str]:
    return {
        "database": _outcome(services.database.ping),
        "tables": _outcome(lambda: _tables(services)),
        "artifacts": _outcome(services.artifacts.check),
        "dispatch": _outcome(lambda: _dispatch(services)),
    }


def _dispatch(services: Services) -> None:
    with services.database.read() as connection:
        found = [row for row in all_dispatchers(connection) if row.alive]
    if not found:
        raise NotReadyError("no dispatcher was heard of for a minute")
    if all(row.ray != "ok" for row in found):
        raise NotReadyError(found[0].ray)


def _tables(services: Services) -> None:
    if not is_current(services.database):
        raise NotReadyError("not at the newest revision; `tightfit serve` upgrades them")


def _outcome(check: Callable[[], None]) -> str:
    try:
        check()
    except NotReadyError as error:
        return str(error)
    except Exception as error:  # strangers may ask: what a driver says of hosts and users is for the log
        logger.warning("not ready: %s", error)
        return f"does not answer ({type(error).__name__})"
    return "ok"
