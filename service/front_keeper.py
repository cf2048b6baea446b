"""The fronts of a job while its trials arrive: every device, along the accuracy and every cost."""

from collections.abc import Sequence

from sqlalchemy import Connection

from search.pareto import FrontArchive
from service.fronts import X_AXES, Measured
from service.store.fronts import Fronts, FrontTotals, Spot


class FrontKeeper:
    """Takes measured trials one by one; ``write`` brings the store up to what was taken since.

    Of equal points the first stands for all. A transaction may be rolled back and its trials be reported again: until
    ``committed`` is called, a trial that was taken is not taken twice.
    """

    def __init__(self, job_id: str, devices: Sequence[str], rows: Sequence[Measured]) -> None:
        self._job_id = job_id
        self._archives: dict[tuple[str, str], FrontArchive[int]] = {
            (device, axis): FrontArchive(2) for device in devices for axis in X_AXES
        }
        self._points: dict[tuple[str, str], set[tuple[float, float]]] = {spot: set() for spot in self._archives}
        self._measured = dict.fromkeys(devices, 0)
        self._feasible = dict.fromkeys(devices, 0)
        self._dearest: dict[str, dict[str, float]] = {device: {} for device in devices}
        self._written: set[Spot] | None = None  # what the store has of this job; none: that is not known
        self._changed: set[str] = set(devices)
        self._taken: dict[int, list[tuple[str, str]]] = {}  # since the last commit
        for row in rows:
            self._take(row)

    def add(self, row: Measured) -> list[tuple[str, str]]:
        """Take a trial; return device and axis of the fronts that it has joined."""
        if row.record.number not in self._taken:
            self._taken[row.record.number] = self._take(row)
        return self._taken[row.record.number]

    def committed(self) -> None:
        """Say that what was written is in the store to stay."""
        self._taken.clear()

    def rolled_back(self) -> None:
        """Say that it is not known what the store has."""
        self._written = None
        self._changed = set(self._measured)

    def _take(self, row: Measured) -> list[tuple[str, str]]:
        joined = []
        for device in self._measured:
            costs = row.costs(device)
            if costs is None:
                continue
            self._changed.add(device)
            self._measured[device] += 1
            self._feasible[device] += costs.feasible
            for axis in X_AXES:
                value = row.x(device, axis)
                self._dearest[device][axis] = max(value, self._dearest[device].get(axis, 0.0))
                if costs.feasible and self._join(device, axis, row.record.number, (value, -row.accuracy)):
                    joined.append((device, axis))
        return joined

    def write(self, connection: Connection) -> None:
        """Bring the store up to date; all of it at the first time."""
        if not self._changed:
            return
        fronts = Fronts(connection)
        if self._written is None:
            fronts.clear(self._job_id)
            self._written = set()
        now = {(*spot, number) for spot, archive in self._archives.items() for number in archive}
        totals = {
            device: FrontTotals(
                measured=self._measured[device], feasible=self._feasible[device], dearest=self._dearest[device]
            )
            for device in self._changed
        }
        fronts.change(self._job_id, joined=now - self._written, left=self._written - now, totals=totals)
        self._written, self._changed = now, set()

    def _join(self, device: str, axis: str, number: int, point: tuple[float, float]) -> bool:
        archive, points = self._archives[device, axis], self._points[device, axis]
        if point in points or not archive.add(number, point):
            return False
        points.clear()
        points.update((float(x), float(y)) for x, y in archive.points)
        return True
