"""Fronts and best trials of a job, computed from its stored trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwmodels.errors import InputError, UnknownNameError
from search.pareto import hypervolume, non_dominated
from service.errors import ConflictError
from service.store.fronts import FrontTotals
from service.store.records import JobRecord, TrialRecord
from workers.events import DeviceCosts, Evaluation, Origin, TrialStatus
from workers.finalists import cleared
from workers.spec import COST_OBJECTIVES, USUAL_DROP, DeviceTarget, JobSpec

X_AXES = (*COST_OBJECTIVES, "packed_bytes")
Y_AXES = ("accuracy",)
REFERENCE_MARGIN = 1.1  # the reference lies a tenth beyond the dearest point


class UnknownAxisError(UnknownNameError):
    """A front was asked for along a figure that trials do not have."""

    code = "unknown_axis"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A trial that was measured, with its evaluation read."""

    record: TrialRecord
    evaluation: Evaluation

    def costs(self, device: str) -> DeviceCosts | None:
        """Return what the trial costs on a device."""
        return self.evaluation.costs.get(device)

    def x(self, device: str, axis: str) -> float:
        """Return a cost of the trial."""
        return float(
            self.evaluation.packed_bytes if axis == "packed_bytes" else getattr(self.evaluation.costs[device], axis)
        )

    @property
    def accuracy(self) -> float:
        """Accuracy on the search images; trials without one are not ``Measured``."""
        return self.evaluation.accuracy or 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The front of a job on one device; ``reference`` is the corner of the hypervolume."""

    target: DeviceTarget
    x: str
    y: str
    points: tuple[Measured, ...]
    baselines: tuple[Measured, ...]
    feasible: int
    hypervolume: float
    reference: Mapping[str, float]


def target_of(job: JobRecord, device: str | None) -> DeviceTarget:
    """Return the job's device of that name, by default its first one."""
    targets = JobSpec.from_json(job.spec).devices
    for target in targets:
        if device in (None, target.name):
            return target
    known = ", ".join(target.name for target in targets)
    raise UnknownNameError("device", f"must be one of the job's devices: {known}", device)


def measured(trials: Sequence[TrialRecord]) -> list[Measured]:
    """Return the trials whose accuracy is known, by number."""
    found = []
    for trial in trials:
        if trial.status == TrialStatus.DONE and trial.evaluation is not None:
            evaluation = Evaluation.from_json(trial.evaluation)
            if evaluation.accuracy is not None:
                found.append(Measured(record=trial, evaluation=evaluation))
    return found


def front_of(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    *,
    device: str | None = None,
    x: str | None = None,
    y: str | None = None,
    totals: FrontTotals | None = None,
) -> Front:
    """Return the non-dominated trials that keep every cost limit of a device, cheapest first.

    ``trials`` are all measured ones; or, with ``totals`` of those, at least the ones on the front and the baselines.

    A limit on the drop of accuracy does not thin the front out: it says which part of it may be used.

    Raises:
        UnknownNameError: The device is none of the job's, or an axis is not known.
    """
    target = target_of(job, device)
    x = x or first_cost(JobSpec.from_json(job.spec))
    y = y or "accuracy"
    for field, axis, known in (("x", x, X_AXES), ("y", y, Y_AXES)):
        if axis not in known:
            raise UnknownAxisError(field, f"must be one of {', '.join(known)}", axis)
    rows = [row for row in measured(trials) if row.costs(target.name) is not None]
    feasible = [row for row in rows if _feasible(row, target.name)]
    points = _non_dominated(feasible, target.name, x)
    dearest = max((row.x(target.name, x) for row in rows), default=0.0)
    if totals is not None:
        dearest = totals.dearest.get(x, dearest)
    reference = {x: dearest * REFERENCE_MARGIN, y: 0.0}
    volume = 0.0
    if points:
        corners = np.array([[row.x(target.name, x), -row.accuracy] for row in points])
        volume = float(hypervolume(corners, [reference[x], 0.0]))
    return Front(
        target=target,
        x=x,
        y=y,
        points=points,
        baselines=tuple(row for row in rows if row.record.origin == Origin.BASELINE),
        feasible=len(feasible) if totals is None else totals.feasible,
        hypervolume=volume,
        reference=reference,
    )


def best_of(
    job: JobRecord, trials: Sequence[TrialRecord], *, device: str | None = None, accuracy_drop: float | None = None
) -> Measured:
    """Return the verified feasible trial within the drop that has the lowest first cost, ties to accuracy.

    Where the images clear some of a drop that counts (``workers.finalists.cleared``), it is one of these.

    Raises:
        ConflictError: There is none; says why.
    """
    target = target_of(job, device)
    drop = next((value for value in (accuracy_drop, target.limits.accuracy_drop) if value is not None), USUAL_DROP)
    if not 0 <= drop <= 1:
        raise InputError("accuracy_drop", "must be in 0..1", drop)
    baseline = None if job.baseline is None else job.baseline.get("accuracy")
    if baseline is None:
        raise _no_best(f"the job is {job.status}: its float network has not been measured yet")
    axis = first_cost(JobSpec.from_json(job.spec))
    remaining = measured(trials)
    for keep, otherwise in (
        (lambda row: True, f"the job is {job.status} and no trial has been measured yet"),
        (lambda row: _feasible(row, target.name), f"no trial keeps every limit on {target.name}"),
        (
            lambda row: baseline - row.accuracy <= drop + 1e-9,
            f"no trial that keeps the limits on {target.name} is within {drop:g} of the float network's {baseline:.4f}",
        ),
        (lambda row: row.record.verified, _unverified(job)),
    ):
        remaining = [row for row in remaining if keep(row)]
        if not remaining:
            raise _no_best(otherwise)

    def rank(row: Measured) -> tuple[bool, float, float, int]:
        return (not cleared(row.evaluation, drop), row.x(target.name, axis), -row.accuracy, row.record.number)

    return min(remaining, key=rank)


def _feasible(row: Measured, device: str) -> bool:
    costs = row.costs(device)
    return costs is not None and costs.feasible


def _non_dominated(rows: Sequence[Measured], device: str, x: str) -> tuple[Measured, ...]:
    if not rows:
        return ()
    points = np.array([[row.x(device, x), -row.accuracy] for row in rows])
    kept: dict[tuple[Any, ...], Measured] = {}  # of equal points the first one stands for all
    for row, point, keep in zip(rows, points, non_dominated(points), strict=True):
        if keep:
            kept.setdefault(tuple(point), row)
    return tuple(kept[point] for point in sorted(kept))


def first_cost(spec: JobSpec) -> str:
    """Return the first cost objective of a job: the axis of its front, and what is best."""
    return next((name for name in spec.objectives if name in COST_OBJECTIVES), "latency_ms")


def _unverified(job: JobRecord) -> str:
    if job.ended:
        return "no checkpoint of a trial within limits and drop was verified"
    return f"the job is {job.status}: checkpoints are verified when its search has ended"


def _no_best(reason: str) -> ConflictError:
    return ConflictError(reason, code="no_best_trial")
