"""Fronts as they stand: which trials are on them, and what is needed of all others."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select

from service.store.tables import front_points, front_totals


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontTotals:
    """Of all measured trials on one device: how many, how many keep the limits, and the largest of each cost."""

    measured: int
    feasible: int
    dearest: Mapping[str, float]


_TOTALS = select(front_totals.c.measured, front_totals.c.feasible, front_totals.c.dearest).where(
    front_totals.c.job_id == bindparam("job"), front_totals.c.device == bindparam("device")
)

Spot = tuple[str, str, int]
"""Device, axis and number of a trial on a front."""


class Fronts:
    """The fronts of all jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def totals(self, job_id: str, device: str) -> FrontTotals | None:
        """Return what is known of all trials; ``None`` for a job whose fronts are not kept."""
        row = self._connection.execute(_TOTALS, {"job": job_id, "device": device}).one_or_none()
        return None if row is None else FrontTotals(**row._mapping)

    def numbers(self, job_id: str, device: str) -> list[int]:
        """Return the trials on a device's front along any cost."""
        query = select(front_points.c.number).where(front_points.c.job_id == job_id, front_points.c.device == device)
        return list(self._connection.execute(query.distinct()).scalars())

    def clear(self, job_id: str) -> None:
        """Forget the fronts of a job."""
        for table in (front_points, front_totals):
            self._connection.execute(delete(table).where(table.c.job_id == job_id))

    def change(
        self, job_id: str, *, joined: Collection[Spot], left: Iterable[Spot], totals: Mapping[str, FrontTotals]
    ) -> None:
        """Write which trials have joined and left which fronts, and the new totals by device."""
        for device, axis, number in left:
            gone = (front_points.c.device == device) & (front_points.c.axis == axis) & (front_points.c.number == number)
            self._connection.execute(delete(front_points).where(front_points.c.job_id == job_id, gone))
        if joined:
            rows = [{"job_id": job_id, "device": row[0], "axis": row[1], "number": row[2]} for row in joined]
            self._connection.execute(insert(front_points), rows)
        if totals:
            old = (front_totals.c.job_id == job_id) & front_totals.c.device.in_(totals)
            self._connection.execute(delete(front_totals).where(old))
            values = [
                {
                    "job_id": job_id,
                    "device": device,
                    "measured": row.measured,
                    "feasible": row.feasible,
                    "dearest": dict(row.dearest),
                }
                for device, row in totals.items()
            ]
            self._connection.execute(insert(front_totals), values)
