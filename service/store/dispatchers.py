"""Dispatchers say that they live; who cannot talk to Ray learns here how it is."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from service.store.database import database_now
from service.store.tables import dispatchers

SILENT_S = 60.0
FORGOTTEN_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherRecord:
    """What a dispatcher said last, and how many seconds ago."""

    name: str
    evaluators: int
    running: int
    ray: str
    age_s: float

    @property
    def alive(self) -> bool:
        """Whether it was heard of lately."""
        return self.age_s < SILENT_S


def say(connection: Connection, name: str, *, evaluators: int, running: int, ray: str, busy_s: float = 0.0) -> None:
    """Let a dispatcher say how it stands; those of long ago are forgotten."""
    gone = (dispatchers.c.name == name) | (dispatchers.c.seen_at < database_now() - FORGOTTEN_S)
    connection.execute(delete(dispatchers).where(gone))
    values = {
        "name": name,
        "evaluators": evaluators,
        "running": running,
        "ray": ray[:200],
        "busy_s": busy_s,
        "seen_at": database_now(),
    }
    connection.execute(insert(dispatchers).values(**values))


def all_dispatchers(connection: Connection) -> list[DispatcherRecord]:
    """Return every dispatcher that was heard of in the last hour."""
    age = (database_now() - dispatchers.c.seen_at).label("age_s")
    columns = (dispatchers.c.name, dispatchers.c.evaluators, dispatchers.c.running, dispatchers.c.ray, age)
    return [DispatcherRecord(**row._mapping) for row in connection.execute(select(*columns).order_by(age))]
