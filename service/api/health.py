"""``/healthz`` and ``/readyz``."""

from collections.abc import Callable

import anyio
from fastapi import APIRouter, Response

from service.api.dependencies import ServicesOf
from service.api.schemas import Health
from service.services import Services
from service.store.migrate import is_current

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Health:
    """Say that the process answers; needs nothing else."""
    return Health(status="ok")


@router.get("/readyz")
async def readyz(services: ServicesOf, response: Response) -> Health:
    """Say whether requests can be served: database, its tables, artefacts. 503 if not."""
    checks = await anyio.to_thread.run_sync(_check, services)
    ready = all(answer == "ok" for answer in checks.values())
    response.status_code = 200 if ready else 503
    return Health(status="ok" if ready else "unavailable", checks=checks)


def _check(services: Services) -> dict[str, str]:
    return {
        "database": _outcome(services.database.ping),
        "tables": _outcome(lambda: _tables(services)),
        "artifacts": _outcome(services.artifacts.check),
    }


def _tables(services: Services) -> None:
    if not is_current(services.database):
        raise RuntimeError("not at the newest revision; `tightfit serve` upgrades them")


def _outcome(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:  # whatever it is, it is the answer
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
    return "ok"
