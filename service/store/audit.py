"""The audit log: who changed what, and who was refused. Nothing but time removes a row."""

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from service.store.records import AuditRecord
from service.store.rows import records, values_of
from service.store.tables import audit


class Audit:
    """The log of everybody."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, entry: AuditRecord) -> None:
        """Write a line."""
        self._connection.execute(insert(audit), values_of(entry))

    def page(self, *, owner: str | None = None, before: str | None = None, limit: int = 50) -> list[AuditRecord]:
        """Return the newest lines, of one owner and older than ``before`` if those are given."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if owner is not None:
            query = query.where(audit.c.owner == owner)
        if before is not None:
            query = query.where(audit.c.id < before)
        return records(AuditRecord, self._connection.execute(query))

    def remove_before(self, moment: datetime) -> int:
        """Forget what happened before a moment; say how many lines that were."""
        return self._connection.execute(delete(audit).where(audit.c.at < moment)).rowcount
