"""Trials: a row when one starts, changed once when it ends."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, func, select, update

from service.store.records import TrialRecord
from service.store.rows import insert_unless_there, moment, record
from service.store.tables import trials
from workers.events import Origin, Trial, TrialStatus

_AT_ONCE = 1000  # parameters of one statement


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
        query = select(trials).where(trials.c.job_id == job_id, trials.c.number > after).order_by(trials.c.number)
        if statuses:
            query = query.where(trials.c.status.in_(statuses))
        return [record(TrialRecord, row) for row in self._connection.execute(query.limit(limit))]

    def numbered(self, job_id: str, numbers: Collection[int]) -> list[TrialRecord]:
        """Return these trials of a job, by number."""
        query = select(trials).where(trials.c.job_id == job_id, trials.c.number.in_(numbers)).order_by(trials.c.number)
        return [record(TrialRecord, row) for row in self._connection.execute(query)]

    def notable(self, job_id: str, numbers: Collection[int]) -> list[TrialRecord]:
        """Return these trials of a job, its baselines and those whose checkpoint was verified, by number."""
        of_job = select(trials).where(trials.c.job_id == job_id)
        wanted = sorted(numbers)
        queries = [of_job.where(trials.c.origin == Origin.BASELINE), of_job.where(trials.c.verified)]
        queries += [
            of_job.where(trials.c.number.in_(wanted[start : start + _AT_ONCE]))
            for start in range(0, len(wanted), _AT_ONCE)
        ]
        found = {row.number: record(TrialRecord, row) for query in queries for row in self._connection.execute(query)}
        return [found[number] for number in sorted(found)]

    def last_number(self, job_id: str) -> int | None:
        """Return the highest number of a job's trials; ``None`` if there are none."""
        number: int | None = self._connection.execute(
            select(func.max(trials.c.number)).where(trials.c.job_id == job_id)
        ).scalar_one()
        return number
