"""What single choices do, as jobs have measured it: kept among their events, found again by later runs and jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from sqlalchemy import Connection, select

from service.store.records import JobRecord
from service.store.tables import events, jobs
from workers.events import ChoiceEffect

KIND = "sensitivity"
CONDITIONS = ("seed", "split", "imitation_steps")
"""What of a job's request decides, beside model, data and plan, what is measured of a choice."""


class Sensitivities:
    """The sensitivities of all jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, job: JobRecord) -> list[ChoiceEffect]:
        """Return what a job knows of single choices, each once, in the order in which it came to know."""
        rows = (row for rows in self._measured([job.id]) for row in rows)
        return list({(row.variable, row.choice): row for row in rows}.values())

    def known(self, job: JobRecord) -> dict[str, tuple[float, float]]:
        """Return divergence and loss by plan digest from all jobs that measured what this one would.

        They have the same owner, model and data, and the same split and seed: then limits, devices, budget, strategy
        and space may differ.
        """
        query = select(jobs.c.id, jobs.c.spec).where(
            jobs.c.owner == job.owner, jobs.c.model_id == job.model_id, jobs.c.dataset_id == job.dataset_id
        )
        alike = [row.id for row in self._connection.execute(query) if _conditions(row.spec) == _conditions(job.spec)]
        return {row.plan_digest: (row.divergence, row.loss) for rows in self._measured(alike) for row in rows}

    def _measured(self, job_ids: Sequence[str]) -> list[list[ChoiceEffect]]:
        query = (
            select(events.c.data)
            .where(events.c.job_id.in_(job_ids), events.c.kind == KIND)
            .order_by(events.c.job_id, events.c.sequence)
        )
        stored = [row.data for row in self._connection.execute(query)]
        return [[ChoiceEffect(**row) for row in data["rows"]] for data in stored if data["version"] == _version()]


def entry(rows: Sequence[ChoiceEffect]) -> tuple[str, dict[str, Any]]:
    """Return measured choices as an event."""
    return KIND, {"version": _version(), "rows": [asdict(row) for row in rows]}


def _conditions(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(spec.get(name) for name in CONDITIONS)


def _version() -> str:
    """Return what other code may have measured otherwise."""
    return version("tightfit")
