"""What happened to a job, in order; streams replay it from any point."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from service.store.records import EventRecord
from service.store.rows import moment, records
from service.store.states import ENDED
from service.store.tables import events, jobs

_AT_ONCE = 500  # parameters of one statement


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a job's events go, and whether more may come."""

    last_event: int
    ended: bool


def standings(connection: Connection, job_ids: Collection[str]) -> dict[str, Standing]:
    """Return how these jobs stand, of whoever they are; those that are gone are left out."""
    found: dict[str, Standing] = {}
    names = list(job_ids)
    for start in range(0, len(names), _AT_ONCE):
        query = select(jobs.c.id, jobs.c.last_event, jobs.c.status).where(
            jobs.c.id.in_(names[start : start + _AT_ONCE])
        )
        found |= {row.id: Standing(row.last_event, row.status in ENDED) for row in connection.execute(query)}
    return found


class Events:
    """The events of all jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
        """Write the first event of a job that was just stored as one that has one."""
        row = {"job_id": job_id, "sequence": 1, "kind": kind, "data": data, "created_at": moment()}
        self._connection.execute(insert(events), row)

    def append(self, job_id: str, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Add events of these kinds and data to a job. The job's row counts them, and is locked by that."""
        if not entries:
            return
        statement = (
            update(jobs)
            .where(jobs.c.id == job_id)
            .values(last_event=jobs.c.last_event + len(entries))
            .returning(jobs.c.last_event)
        )
        first = self._connection.execute(statement).scalar_one() - len(entries) + 1
        now = moment()
        rows = [
            {"job_id": job_id, "sequence": first + offset, "kind": kind, "data": data, "created_at": now}
            for offset, (kind, data) in enumerate(entries)
        ]
        self._connection.execute(insert(events), rows)

    def after(self, job_id: str, sequence: int, *, limit: int = 500) -> list[EventRecord]:
        """Return a job's events with a sequence above ``sequence``, in order."""
        query = (
            select(events)
            .where(events.c.job_id == job_id, events.c.sequence > sequence)
            .order_by(events.c.sequence)
            .limit(limit)
        )
        return records(EventRecord, self._connection.execute(query))
