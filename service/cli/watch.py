"""``tightfit watch``: a job's progress as it happens."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from service import display
from service.api.schemas import FrontRead, JobRead, TrialRead
from service.cli.common import DEFAULT_URL, JobId, Json, Url
from service.cli.output import err, print_json_line, problems_end_the_command, table
from service.cli.references import find_job
from service.cli.tables import status_text
from service.client import Client
from service.plan_summary import summarize
from workers.spec import USUAL_DROP

_RENEW_SECONDS = 1.0
_LINE_SECONDS = 10.0


def watch(job: JobId, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Follow a job until it ends. With --json every event is a line of JSON.

    Leaves with code 1 if the job failed or was cancelled. Stopping to watch does not stop the job.
    """
    with problems_end_the_command(), Client(url) as client:
        read = find_job(client, job)
        ended = stream_events(client, read.id) if as_json else follow(client, read.id)
    end_with(ended)


def end_with(job: JobRead) -> None:
    """Leave with code 1 unless the job went as it should."""
    if job.status in ("failed", "cancelled"):
        raise typer.Exit(1)


def stream_events(client: Client, job_id: str) -> JobRead:
    """Print every event as a line of JSON; return the job as it ended."""
    for event in client.watch(job_id):
        print_json_line({"id": event.id, "event": event.event, "data": json.loads(event.data)})
    return client.job(job_id)


def follow(client: Client, job_id: str) -> JobRead:
    """Draw a job's progress until it ends; return it as it then is. Without a terminal it prints a line at times."""
    view = JobView(client, job_id)
    with _shown(view) as show:
        due = 0.0
        for _ in client.watch(job_id):
            if time.monotonic() >= due:
                view.renew()
                show()
                due = time.monotonic() + _RENEW_SECONDS
        view.renew()
        show()
    if view.job.reason:
        err.print(f"{view.job.status}: {view.job.reason}", markup=False)
    return view.job


@dataclass
class JobView:
    """What is drawn of a job: its bar, and the best trial so far on each device."""

    client: Client
    job_id: str
    job: JobRead = field(init=False)
    fronts: list[FrontRead] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Ask the service how the job stands."""
        self.job = self.client.job(self.job_id)
        if self.job.baseline is not None:
            self.fronts = [self.client.front(self.job_id, device=device.name) for device in self.job.devices]

    def line(self) -> str:
        """Return the state as one line of text."""
        done, total = self._done()
        parts = [self.job.status, f"{done} of {total} {self._unit}" if total else f"{done} {self._unit}"]
        if self.job.progress and self.job.progress.seconds_left is not None and not self.job.ended_at:
            parts.append(f"about {display.duration(self.job.progress.seconds_left)} left")
        parts += [f"{front.device}: {len(front.points)} on the front" for front in self.fronts]
        return ", ".join(parts)

    def __rich__(self) -> RenderableType:
        done, total = self._done()
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=total, completed=done, width=34, pulse=total is None)
        left = None if self.job.progress is None else self.job.progress.seconds_left
        remaining = "" if self.job.ended_at else f"about {display.duration(left)} left" if left is not None else ""
        count = f"{done} of {total} {self._unit}" if total else f"{done} {self._unit}"
        head.add_row(status_text(self.job.status), bar, count, remaining)
        return Group(head, "", self._best()) if self.fronts else head

    def _done(self) -> tuple[int, int | None]:
        if self.job.progress is None:
            trials = self.job.budget.get("trials")
            return 0, trials if isinstance(trials, int) else None
        return self.job.progress.done, self.job.progress.total

    @property
    def _unit(self) -> str:
        return "trials" if self.job.progress is None else self.job.progress.unit

    def _best(self) -> Table:
        result = table(
            "",
            "Best so far on",
            ">Front",
            "Trial",
            ">Accuracy (%)",
            ">Latency (ms)",
            ">Energy (mJ)",
            ">Model (bytes)",
            ">Packed (bytes)",
            "Uses",
        )
        for front in self.fronts:
            best = best_so_far(self.job, front)
            if best is None or best.accuracy is None:
                result.add_row(front.device, str(len(front.points)), "none close enough yet", *[""] * 6)
                continue
            costs = best.costs[front.device]
            result.add_row(
                front.device,
                str(len(front.points)),
                best.label or str(best.number),
                f"{best.accuracy * 100:.2f}",
                display.amount(costs.latency_ms),
                display.amount(costs.energy_mj),
                f"{costs.model_bytes:,}",
                display.ABSENT if best.packed_bytes is None else f"{best.packed_bytes:,}",
                summarize(best.plan).kind,
            )
        return result


def best_so_far(job: JobRead, front: FrontRead) -> TrialRead | None:
    """Return the front's trial that is cheapest by the first cost objective among those that lose little.

    Little is the device's limit on the drop of accuracy, ``USUAL_DROP`` if it has none; ties go to the accuracy.
    Unlike the service's answer to ``best``, checkpoints need not be verified yet.
    """
    if job.baseline is None or job.baseline.accuracy is None:
        return None
    limits = next((target.limits for target in job.devices if target.name == front.device), {})
    allowed = limits.get("accuracy_drop")
    drop = USUAL_DROP if allowed is None else allowed
    cost = job.objectives[1]
    floor = job.baseline.accuracy - drop - 1e-9
    good = [trial for trial in front.points if trial.accuracy is not None and trial.accuracy >= floor]
    return min(
        good, key=lambda trial: (getattr(trial.costs[front.device], cost), -(trial.accuracy or 0.0)), default=None
    )


class _Show:
    def __init__(self, view: JobView, live: Live | None) -> None:
        self._view, self._live = view, live
        self._last_status = ""
        self._due = 0.0

    def __call__(self) -> None:
        if self._live is not None:
            self._live.update(self._view, refresh=True)
            return
        now = time.monotonic()
        if self._view.job.status != self._last_status or now >= self._due:
            err.print(self._view.line(), markup=False, soft_wrap=True)
            self._last_status, self._due = self._view.job.status, now + _LINE_SECONDS


@contextmanager
def _shown(view: JobView) -> Iterator[_Show]:
    if not (err.is_terminal and sys.stderr.isatty()):
        yield _Show(view, None)
        return
    with Live(view, console=err, auto_refresh=False) as live:
        yield _Show(view, live)
