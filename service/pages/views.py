"""What the templates show: answers of the service turned into the few figures that a page needs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from service.api.schemas import CostsRead, FloatPoint, JobRead, JobSummary, TrialRead
from service.plan_summary import PlanSummary, summarize
from service.store.states import ENDED
from workers.events import Origin, TrialStatus
from workers.spec import COST_OBJECTIVES

AXES = ("accuracy", *COST_OBJECTIVES, "packed_bytes")


def has_ended(job: JobSummary) -> bool:
    """Tell whether nothing will change any more."""
    return job.status in ENDED


def elapsed_seconds(job: JobSummary) -> float | None:
    """Return the time since a dispatcher first took the job, until it ended."""
    if job.started_at is None:
        return None
    return ((job.ended_at or datetime.now(UTC)) - job.started_at).total_seconds()


def limits_of(job: JobRead, device: str) -> dict[str, float]:
    """Return the limits of a device that are set."""
    found = next(target.limits for target in job.devices if target.name == device)
    return {name: value for name, value in found.items() if value is not None}


def least_accuracy(job: JobRead, device: str) -> float | None:
    """Return the accuracy that the device's limit on the drop leaves; ``None`` without such a limit."""
    drop = limits_of(job, device).get("accuracy_drop")
    if drop is None or job.baseline is None or job.baseline.accuracy is None:
        return None
    return job.baseline.accuracy - drop


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """A trial as one device sees it. ``violations`` names the limits that it breaks."""

    read: TrialRead
    device: str
    costs: CostsRead
    summary: PlanSummary
    violations: frozenset[str] = field(default_factory=frozenset)

    @property
    def id(self) -> str:
        """Identifier of the trial."""
        return self.read.id

    @property
    def name(self) -> str:
        """What people call the trial: a baseline's label, else its number."""
        return self.read.label or f"trial {self.read.number}"

    @property
    def is_baseline(self) -> bool:
        """Whether this is one of the uniform baselines."""
        return self.read.origin == Origin.BASELINE

    @property
    def verified(self) -> bool | None:
        """Whether the checkpoint was reloaded and agreed; ``None`` if there is no checkpoint."""
        return None if self.read.checkpoint is None else self.read.checkpoint.verified

    @property
    def feasible(self) -> bool:
        """Whether the trial was measured to the end and keeps every cost limit; the drop of accuracy is not asked."""
        return self.read.status == TrialStatus.DONE and self.read.feasible.get(self.device, False)

    def value(self, figure: str) -> float | None:
        """Return one of the figures of ``AXES``; ``None`` if it was not measured."""
        if figure == "accuracy":
            return self.read.accuracy
        if figure == "packed_bytes":
            return self.read.packed_bytes
        return float(getattr(self.costs, figure))


def trial_rows(
    job: JobRead, trials: Iterable[TrialRead], *, device: str, description: Mapping[str, Any] | None
) -> list[TrialRow]:
    """Return the trials whose costs on ``device`` are known, as it sees them."""
    floor = least_accuracy(job, device)
    rows = []
    for trial in trials:
        costs = trial.costs.get(device)
        if costs is None:
            continue
        broken = set(costs.violations)
        if floor is not None and trial.accuracy is not None and trial.accuracy < floor:
            broken.add("accuracy_drop")
        rows.append(
            TrialRow(
                read=trial,
                device=device,
                costs=costs,
                summary=summarize(trial.plan, description),
                violations=frozenset(broken),
            )
        )
    return rows


def float_point(job: JobRead, device: str) -> FloatPoint | None:
    """Return the float network as a point on a device; ``None`` before it was measured."""
    if job.baseline is None or device not in job.baseline.costs:
        return None
    return FloatPoint(
        accuracy=job.baseline.accuracy,
        packed_bytes=job.baseline.packed_bytes,
        costs=job.baseline.costs[device],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """One figure on one device: what was asked, what can be reached, what the float network takes."""

    device: str
    first: bool
    figure: str
    limit: float | None
    smallest: float | None
    middle: float | None
    largest: float | None
    float_value: float | None


def reach(job: JobRead) -> Sequence[Reach]:
    """Return the job's limits beside the reachable ranges, device by device."""
    rows = []
    for target in job.devices:
        ranges = job.ranges.get(target.name, {})
        point = float_point(job, target.name)
        for index, figure in enumerate(COST_OBJECTIVES):
            span = ranges.get(figure, {})
            rows.append(
                Reach(
                    device=target.name,
                    first=index == 0,
                    figure=figure,
                    limit=target.limits.get(figure),
                    smallest=span.get("smallest"),
                    middle=span.get("middle"),
                    largest=span.get("largest"),
                    float_value=None if point is None else float(getattr(point.costs, figure)),
                )
            )
    return rows
