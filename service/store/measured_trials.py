"""The figures of a job's measured trials, without what takes long to read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Text, cast, select

from service.store.tables import trials
from workers.events import TrialStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFigures:
    """What was measured of a trial; ``costs`` as stored, by device."""

    number: int
    label: str
    accuracy: float
    packed_bytes: int
    costs: Mapping[str, Mapping[str, Any]]
    verified: bool


class MeasuredTrials:
    """The trials of all jobs whose accuracy is known."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def figures(self, job_id: str) -> list[TrialFigures]:
        """Return the figures of a job's measured trials, by number."""
        evaluation = trials.c.evaluation
        columns = (
            trials.c.number,
            trials.c.label,
            evaluation["accuracy"].as_float(),
            evaluation["packed_bytes"].as_integer(),
            evaluation["costs"],
            trials.c.verified,
        )
        return [
            TrialFigures(
                number=number, label=label, accuracy=accuracy, packed_bytes=packed_bytes, costs=costs, verified=verified
            )
            for number, label, accuracy, packed_bytes, costs, verified in self._rows(job_id, *columns)
        ]

    def plans(self, job_id: str) -> dict[int, str]:
        """Return the plans of the same trials by number, as JSON texts."""
        return {number: plan for number, plan in self._rows(job_id, trials.c.number, cast(trials.c.plan, Text))}

    def _rows(self, job_id: str, *columns: ColumnElement[Any]) -> Iterable[Row[*tuple[Any, ...]]]:
        query = select(*columns).where(
            trials.c.job_id == job_id,
            trials.c.status == TrialStatus.DONE,
            trials.c.evaluation["accuracy"].as_float().is_not(None),
        )
        return self._connection.execute(query.order_by(trials.c.number))
