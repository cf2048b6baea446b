"""What a job has worked out for all its evaluators: artefacts, named among the job's events under the driver's keys."""

from typing import Any

from sqlalchemy import Connection, select

from service.artifacts import Artifact
from service.store.tables import events

KIND = "groundwork"


def entry(key: str, artifact: Artifact) -> tuple[str, dict[str, Any]]:
    """Return a piece of groundwork as an event."""
    return KIND, {"key": key, "digest": artifact.digest, "bytes": artifact.bytes}


def groundwork(connection: Connection, job_id: str) -> dict[str, str]:
    """Return the digests of a job's pieces by key; of what came twice, the last."""
    query = select(events.c.data).where(events.c.job_id == job_id, events.c.kind == KIND).order_by(events.c.sequence)
    return {row.data["key"]: row.data["digest"] for row in connection.execute(query)}
