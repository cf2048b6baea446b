"""Trials: a row when one starts, changed once when it ends."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import CompoundSelect, Connection, Select, bindparam, func, select, union_all, update

from service.store.records import TrialRecord
from service.store.rows import insert_unless_there, moment, record, records
from service.store.tables import front_points, trials
from workers.events import Origin, Trial, TrialStatus

_AT_ONCE = 1000  # parameters of one statement

# Built once: to put a statement together takes longer than to run it.
_OF_JOB = select(trials).where(trials.c.job_id == bindparam("job"))
_NOTABLE = (_OF_JOB.where(trials.c.origin == Origin.BASELINE), _OF_JOB.where(trials.c.verified))
_PAGE = _OF_JOB.where(trials.c.number > bindparam("after")).order_by(trials.c.number)
_FIRST = _PAGE.limit(bindparam("most"))
_ON_ANY_FRONT = select(front_points.c.number).where(
    front_points.c.job_id == bindparam("job"), front_points.c.device == bindparam("device")
)
_ON_FRONT = _ON_ANY_FRONT.where(front_points.c.axis == bindparam("axis"))
_NOTABLE_AND_ON_ANY_FRONT, _NOTABLE_AND_ON_FRONT = (
    union_all(*_NOTABLE, _OF_JOB.where(trials.c.number.in_(numbers))) for numbers in (_ON_ANY_FRONT, _ON_FRONT)
)


class Trials:
    """The trials of all jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def save(self, job_id: str, trial: Trial) -> bool:
        """Write a trial as it stands; say whether that changed anything.

        A trial that has ended stays as it is: a driver may report the same event twice.
        """
        ended = trial.status != TrialStatus.RUNNING
        values: dict[str, Any] = {
            "origin": trial.origin,
            "label": trial.label,
            "status": trial.status,
            "candidate": trial.candidate,
            "plan": trial.plan,
            "evaluation": None if trial.evaluation is None else trial.evaluation.to_json(),
            "ended_at": moment() if ended else None,
        }
        new = {"job_id": job_id, "number": trial.number, "created_at": moment(), "verified": False, **values}
        running = (
            update(trials)
            .where(trials.c.job_id == job_id, trials.c.number == trial.number, trials.c.status == TrialStatus.RUNNING)
            .values(**values)
            .returning(trials.c.number)
        )
        # What ends has a row as a rule, what starts has none: the likelier statement first.
        if ended and self._connection.execute(running).one_or_none() is not None:
            return True
        if insert_unless_there(self._connection, trials, new):
            return True
        return not ended and self._connection.execute(running).one_or_none() is not None

    def save_checkpoint(self, job_id: str, number: int, checkpoint: Mapping[str, Any], *, verified: bool) -> None:
        """Say where the artefacts of a trial are and whether they are what the trial says."""
        statement = (
            update(trials)
            .where(trials.c.job_id == job_id, trials.c.number == number)
            .values(checkpoint=checkpoint, verified=verified)
        )
        self._connection.execute(statement)

    def get(self, job_id: str, number: int) -> TrialRecord | None:
        """Return one trial."""
        query = select(trials).where(trials.c.job_id == job_id, trials.c.number == number)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else record(TrialRecord, row)

    def page(
        self, job_id: str, *, after: int = -1, limit: int | None = None, statuses: Collection[str] = ()
    ) -> list[TrialRecord]:
        """Return a job's trials with a number above ``after``, by number."""
        query = _PAGE if limit is None else _FIRST
        if statuses:
            query = query.where(trials.c.status.in_(statuses))
        values = {"job": job_id, "after": after, **({} if limit is None else {"most": limit})}
        return records(TrialRecord, self._connection.execute(query, values))

    def numbered(self, job_id: str, numbers: Collection[int]) -> list[TrialRecord]:
        """Return these trials of a job, by number."""
        query = select(trials).where(trials.c.job_id == job_id, trials.c.number.in_(numbers)).order_by(trials.c.number)
        return records(TrialRecord, self._connection.execute(query))

    def on_front(self, job_id: str, device: str, axis: str | None = None) -> list[TrialRecord]:
        """Return the trials on a device's front along one cost, or along any, and the notable ones, by number."""
        if axis is None:
            return self._merged([_NOTABLE_AND_ON_ANY_FRONT], {"job": job_id, "device": device})
        return self._merged([_NOTABLE_AND_ON_FRONT], {"job": job_id, "device": device, "axis": axis})

    def notable(self, job_id: str, numbers: Collection[int]) -> list[TrialRecord]:
        """Return these trials of a job, its baselines and those whose checkpoint was verified, by number."""
        wanted = sorted(numbers)
        parts = [wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE)]
        return self._merged([*_NOTABLE, *(_OF_JOB.where(trials.c.number.in_(part)) for part in parts)], {"job": job_id})

    def _merged(
        self, queries: Iterable[Select[Any] | CompoundSelect[Any]], values: Mapping[str, str]
    ) -> list[TrialRecord]:
        results = (self._connection.execute(query, values) for query in queries)
        found = {row.number: row for result in results for row in records(TrialRecord, result)}
        return [found[number] for number in sorted(found)]

    def last_number(self, job_id: str) -> int | None:
        """Return the highest number of a job's trials; ``None`` if there are none."""
        number: int | None = self._connection.execute(
            select(func.max(trials.c.number)).where(trials.c.job_id == job_id)
        ).scalar_one()
        return number
