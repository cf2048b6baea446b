"""The trials that a look at a job needs: few, however many the job has."""

from sqlalchemy import Connection

from service.fronts import target_of
from service.store.fronts import Fronts, FrontTotals
from service.store.records import JobRecord, TrialRecord
from service.store.trials import Trials
from workers.events import TrialStatus

MAX_SAMPLED = 2000


def front_trials(
    connection: Connection, job: JobRecord, device: str | None, *, axis: str | None = None
) -> tuple[list[TrialRecord], FrontTotals | None]:
    """Return the trials on a device's front (along one cost or any), baselines and verified ones, and totals of all.

    For a job whose fronts are not kept these are all measured trials, and ``None``.
    """
    name = target_of(job, device).name
    fronts, trials = Fronts(connection), Trials(connection)
    totals = fronts.totals(job.id, name)
    if totals is None:
        return trials.page(job.id, statuses=[TrialStatus.DONE]), None
    notable = trials.on_front(job.id, name, axis)
    if not notable:  # measured, but nothing to show: one says that there were some
        notable = trials.page(job.id, statuses=[TrialStatus.DONE], limit=1)
    return [row for row in notable if row.status == TrialStatus.DONE], totals


def drawn_trials(connection: Connection, job: JobRecord, *, count: int) -> list[TrialRecord]:
    """Return the trials that a page shows: all of a few, else those on any front and an even sample of the others."""
    trials = Trials(connection)
    last = trials.last_number(job.id)
    if count <= MAX_SAMPLED or last is None:
        return trials.page(job.id)
    fronts = Fronts(connection)
    devices = [target["name"] for target in job.spec["devices"]]
    wanted = {number for device in devices for number in fronts.numbers(job.id, device)}
    step = -(-(last + 1) // MAX_SAMPLED)
    rows = {row.number: row for row in trials.notable(job.id, wanted | set(range(0, last + 1, step)))}
    return [rows[number] for number in sorted(rows)]
