"""Jobs as users handle them. What a dispatcher does with a job is in ``leases``."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, or_, select, update

from service.errors import ConflictError, NotFoundError
from service.store.artifact_uses import ArtifactUses
from service.store.database import database_now, lock, owner_of
from service.store.events import Events
from service.store.records import JobRecord, ListedJob
from service.store.rows import inserted_unless_there, moment, records, values_of
from service.store.states import ACTIVE, ENDED, JobStatus, Request, check_transition
from service.store.tables import jobs, trials
from workers.events import TrialStatus

# Built once: to put a statement together takes longer than to run it.
_OWNED = jobs.c.owner == bindparam("owner")
_ONE = select(jobs).where(_OWNED, jobs.c.id == bindparam("identifier"))
_OF_SPEC = ("devices", "data_free")  # the rest may be long
_LISTED = select(
    *(jobs.c[each.name] for each in fields(ListedJob) if each.name not in _OF_SPEC),
    *(jobs.c.spec[name].label(name) for name in _OF_SPEC),
)
_PAGE = _LISTED.where(_OWNED).order_by(jobs.c.id.desc()).limit(bindparam("most"))
_COUNTS = select(
    *(
        select(func.count()).select_from(jobs).where(_OWNED, *those).scalar_subquery()
        for those in ([or_(*(jobs.c.status == each for each in JobStatus if each not in ENDED))], [])
    )
)


def job_record(row: Row[Any]) -> JobRecord:
    """Make a record of a row of ``jobs``."""
    return JobRecord(**{**row._mapping, "status": JobStatus(row.status)})


class Jobs:
    """Jobs of one owner: by default of the one for whom the transaction was opened."""

    def __init__(self, connection: Connection, owner: str | None = None) -> None:
        self._connection = connection
        self._owner = owner_of(connection) if owner is None else owner

    def submit(self, job: JobRecord) -> tuple[JobRecord, bool]:
        """Queue a job, or find the one that the same request with the same key has queued; say whether it is new."""
        if row := inserted_unless_there(self._connection, jobs, {**values_of(job), "last_event": 1}):
            Events(self._connection).begin(job.id, "status", {"status": job.status, "reason": None})
            return job_record(row), True
        stored = self.by_key(job.idempotency_key or "")
        if stored is None or stored.request_digest != job.request_digest:
            raise ConflictError(
                f"Idempotency-Key {job.idempotency_key!r} was used for a different request",
                code="idempotency_key_reused",
            )
        return stored, False

    def by_key(self, key: str) -> JobRecord | None:
        """Return the job that was submitted with this idempotency key."""
        query = select(jobs).where(jobs.c.owner == self._owner, jobs.c.idempotency_key == key)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else job_record(row)

    def get(self, identifier: str) -> JobRecord | None:
        """Return the job with this identifier."""
        row = self._connection.execute(_ONE, {"owner": self._owner, "identifier": identifier}).one_or_none()
        return None if row is None else job_record(row)

    def page(
        self,
        *,
        statuses: Collection[JobStatus] = (),
        model_id: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[ListedJob]:
        """Return the newest jobs, of these statuses, for this network and older than ``before`` if those are given."""
        query = _PAGE
        if statuses:
            query = query.where(jobs.c.status.in_(statuses))
        if model_id is not None:
            query = query.where(jobs.c.model_id == model_id)
        if before is not None:
            query = query.where(jobs.c.id < before)
        return records(ListedJob, self._connection.execute(query, {"owner": self._owner, "most": limit}))

    def counts(self) -> tuple[int, int]:
        """Return how many jobs have not ended, and how many there are."""
        unfinished, stored = self._connection.execute(_COUNTS, {"owner": self._owner}).one()
        return unfinished, stored

    def lock_submissions(self) -> None:
        """Let no other job of the owner be submitted until the transaction ends: what is counted stays right."""
        digest = hashlib.sha256(f"jobs of {self._owner}".encode()).digest()
        lock(self._connection, int.from_bytes(digest[:8], signed=True))

    def trial_counts(self, rows: Collection[JobRecord | ListedJob]) -> dict[str, dict[str, int]]:
        """Return the number of trials of each job by their status; those of jobs that keep no count are counted."""
        counts = {row.id: dict(row.trial_counts or {}) for row in rows}
        uncounted = [row.id for row in rows if row.trial_counts is None]
        if uncounted:
            query = (
                select(trials.c.job_id, trials.c.status, func.count())
                .where(trials.c.job_id.in_(uncounted))
                .group_by(trials.c.job_id, trials.c.status)
            )
            for job_id, status, count in self._connection.execute(query):
                counts[job_id][status] = count
        return counts

    def cancel(self, identifier: str) -> JobRecord:
        """End a job at once if no dispatcher holds it, else ask that one to. Twice is once."""
        job = self._locked(identifier)
        if job.status == JobStatus.CANCELLED:
            return job
        if job.status in ACTIVE and self._held(job):
            return self._ask(job, Request.CANCEL)
        return change_status(self._connection, job, JobStatus.CANCELLED)

    def pause(self, identifier: str) -> JobRecord:
        """Hold a job back at once if no dispatcher has it, else ask that one to; trials in flight start again later."""
        job = self._locked(identifier)
        if job.status == JobStatus.PAUSED:
            return job
        if job.status in ACTIVE and self._held(job):
            return job if job.request == Request.CANCEL else self._ask(job, Request.PAUSE)
        return change_status(self._connection, job, JobStatus.PAUSED)

    def resume(self, identifier: str) -> JobRecord:
        """Queue a paused job again with the trials it has; take a pause back that was not yet honoured."""
        job = self._locked(identifier)
        if job.status in ACTIVE and job.request == Request.PAUSE:
            return self._ask(job, None)
        if job.status in ACTIVE or job.status == JobStatus.QUEUED:
            return job
        return change_status(self._connection, job, JobStatus.QUEUED)

    def remove(self, identifier: str) -> list[str]:
        """Forget a job with its trials and events; a running one must be cancelled first.

        Returns the artefacts that it named, to be discarded if nothing else names them.
        """
        job = self._locked(identifier)
        if job.status in ACTIVE:
            raise ConflictError(f"the job is {job.status}; cancel it before deleting it", code="job_is_running")
        self._connection.execute(delete(jobs).where(jobs.c.id == job.id))
        return ArtifactUses(self._connection).release(job.id)

    def _locked(self, identifier: str) -> JobRecord:
        """Return the job and keep others from changing it until the transaction ends."""
        query = select(jobs).where(jobs.c.owner == self._owner, jobs.c.id == identifier).with_for_update()
        row = self._connection.execute(query).one_or_none()
        if row is None:  # another transaction, for which this one waited, has removed it
            raise NotFoundError("job", identifier)
        return job_record(row)

    def _held(self, job: JobRecord) -> bool:
        """Whether a dispatcher has the job in its hands at this moment; one that died may still seem to."""
        query = select(jobs.c.lease_until >= database_now()).where(jobs.c.id == job.id)
        return bool(self._connection.execute(query).scalar_one())

    def _ask(self, job: JobRecord, request: Request | None) -> JobRecord:
        return change(self._connection, job, {"request": request})


def ended_before(connection: Connection, before: datetime, *, limit: int) -> list[tuple[str, str]]:
    """Return owner and identifier of the jobs that ended before a moment, of all owners."""
    query = select(jobs.c.owner, jobs.c.id).where(jobs.c.status.in_(ENDED), jobs.c.ended_at < before).limit(limit)
    return [(row.owner, row.id) for row in connection.execute(query)]


def _end_running_trials(connection: Connection, job_id: str) -> int:
    """Let the trials in flight fail; return how many there were."""
    statement = (
        update(trials)
        .where(trials.c.job_id == job_id, trials.c.status == TrialStatus.RUNNING)
        .values(status=TrialStatus.FAILED, ended_at=moment())
    )
    return connection.execute(statement).rowcount


def change(connection: Connection, job: JobRecord, values: Mapping[str, Any]) -> JobRecord:
    """Write columns of a job whose row the transaction has locked; return how it then is."""
    statement = update(jobs).where(jobs.c.id == job.id).values(**values).returning(*jobs.c)
    return job_record(connection.execute(statement).one())


def change_status(connection: Connection, job: JobRecord, status: JobStatus, reason: str | None = None) -> JobRecord:
    """Let a locked job enter another status, if it legally can, and write the event. The same status is no change."""
    if status == job.status:
        return job
    check_transition(job.status, status)
    values: dict[str, Any] = {"status": status, "reason": reason}
    if status in (*ENDED, JobStatus.PAUSED, JobStatus.QUEUED):
        values |= {
            "request": None,
            "lease_owner": None,
            "lease_until": None,
        }  # fences off who wakes up late
    if status in ENDED:
        values["ended_at"] = moment()
        broken_off = _end_running_trials(connection, job.id)
        if job.trial_counts is not None and broken_off:
            failed = job.trial_counts.get(TrialStatus.FAILED, 0) + broken_off
            others = {name: count for name, count in job.trial_counts.items() if name != TrialStatus.RUNNING}
            values["trial_counts"] = {**others, TrialStatus.FAILED: failed}
    if status in ACTIVE and job.started_at is None:
        values["started_at"] = moment()
    change(connection, job, values)
    Events(connection).append(job.id, [("status", {"status": status, "reason": reason})])
    return job_record(connection.execute(select(jobs).where(jobs.c.id == job.id)).one())
