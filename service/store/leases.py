"""How dispatchers share jobs: who may write to a job is decided by the database alone.

A lease runs out on the database's clock. Taking a job raises its ``epoch``, and every write of a dispatcher names the
epoch under which it took the job, so that one which was believed dead can do no harm when it wakes up.
"""

from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from service.errors import LeaseLostError
from service.store.database import database_now
from service.store.jobs import change, change_status, job_record
from service.store.records import JobRecord
from service.store.states import CLAIMABLE, JobStatus
from service.store.tables import jobs

FADING = 0.5
"""Share of a lease. A dispatcher renews it three times before it ends; where less is left, it has probably died."""


def _free() -> ColumnElement[bool]:
    unheld = or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < database_now())
    return jobs.c.status.in_(CLAIMABLE) & unheld


class Leases:
    """The leases on all jobs."""

    def __init__(self, connection: Connection, *, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds

    def claim(self, dispatcher: str, *, places: int = 1) -> JobRecord | None:
        """Take a job that waits or whose dispatcher is gone; ``None`` if there is none.

        Jobs that had begun come first, and as many places are kept for those whose dispatcher seems to have died: no
        job that waits takes the place of one that ran. Then comes the owner for whom the fewest jobs run, then the
        oldest job: who submits a hundred jobs waits for them, and nobody else does.

        Args:
            dispatcher: Who asks.
            places: How many jobs it could take now, this one included.
        """
        now, others = database_now(), jobs.alias()
        # The status adds nothing to these conditions but the index, among a hundred thousand jobs that have ended.
        held = select(func.count()).where(others.c.status.in_(CLAIMABLE), others.c.lease_until >= now)
        running = held.where(others.c.owner == jobs.c.owner)
        fading = held.where(others.c.lease_until < now + FADING * self._seconds)
        waits = jobs.c.status == JobStatus.QUEUED
        next_one = (
            select(jobs.c.id)
            .where(_free(), or_(~waits, fading.scalar_subquery() < places))
            .order_by(waits, running.correlate(jobs).scalar_subquery(), jobs.c.id)
        )
        oldest = next_one.limit(1).with_for_update(skip_locked=True, of=jobs)
        statement = (
            update(jobs)
            .where(jobs.c.id == oldest.scalar_subquery(), _free())
            .values(
                lease_owner=dispatcher,
                lease_until=database_now() + self._seconds,
                epoch=jobs.c.epoch + 1,
                attempts=jobs.c.attempts + 1,
                reason=None,  # what it waited for in nobody's hands
            )
            .returning(*jobs.c)
        )
        row = self._connection.execute(statement).one_or_none()
        return None if row is None else job_record(row)

    def hold(self, job_id: str, epoch: int) -> JobRecord:
        """Renew the lease, lock the job's row for this transaction and return it.

        Every transaction in which a dispatcher writes begins with this.

        Raises:
            LeaseLostError: Another dispatcher has taken the job since, or the job was deleted.
        """
        statement = (
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.epoch == epoch, jobs.c.lease_owner.is_not(None))
            .values(lease_until=database_now() + self._seconds)
            .returning(*jobs.c)
        )
        row = self._connection.execute(statement).one_or_none()
        if row is None:
            raise LeaseLostError(f"the lease on job {job_id} under epoch {epoch} was lost")
        return job_record(row)

    def seen(self, job_id: str, epoch: int) -> JobRecord:
        """Return the job as it is, without renewing or locking anything; raises ``LeaseLostError`` like ``hold``."""
        query = select(jobs).where(jobs.c.id == job_id, jobs.c.epoch == epoch, jobs.c.lease_owner.is_not(None))
        row = self._connection.execute(query).one_or_none()
        if row is None:
            raise LeaseLostError(f"the lease on job {job_id} under epoch {epoch} was lost")
        return job_record(row)

    def release(self, job: JobRecord, status: JobStatus | None = None, reason: str | None = None) -> JobRecord:
        """Give a held job back, in another status if one is given; without one the next dispatcher adopts it.

        The reason is that of the status, or else what the job waits for until it is adopted. A start that ended in
        order does not count against the job.
        """
        if status is not None:
            job = change_status(self._connection, job, status, reason)
        values: dict[str, Any] = {"lease_owner": None, "lease_until": None, "attempts": max(0, job.attempts - 1)}
        if status is None:
            values["reason"] = reason
        return change(self._connection, job, values)

    def explain_free(self, reason: str | None) -> None:
        """Say at every job that nobody holds what it waits for; ``None`` if for its turn alone."""
        statement = update(jobs).where(_free(), jobs.c.reason.is_distinct_from(reason)).values(reason=reason)
        self._connection.execute(statement)
