"""Fronts of a job's trials on other devices or under other limits: accuracy belongs to a plan, prices are computed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from hwmodels.profile import Profile
from search.pareto import hypervolume, non_dominated
from service.fronts import REFERENCE_MARGIN, X_AXES, UnknownAxisError, first_cost
from service.graphs import graph_on_disk
from service.services import Services
from service.store.identifiers import new_id
from service.store.measured_trials import MeasuredTrials, TrialFigures
from service.store.records import JobRecord
from service.uploads import find_model
from workers.events import DeviceCosts
from workers.spec import COST_OBJECTIVES, USUAL_DROP, DeviceTarget, JobSpec, Limits

FIGURES = (*COST_OBJECTIVES, "deployable", "reason")
DEPLOYABLE, REASON = FIGURES.index("deployable"), FIGURES.index("reason")
Row = Sequence[Any]
"""A plan's price on a device, in the order of ``FIGURES``."""

LEAST_PART = 1000
"""So many plans are worth a process: laying them out begins with what all have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedTrial:
    """A trial with its price on a device and the limits that it breaks there."""

    trial: TrialFigures
    costs: DeviceCosts

    def x(self, axis: str) -> float:
        """Return a cost."""
        return float(self.trial.packed_bytes if axis == "packed_bytes" else getattr(self.costs, axis))


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankedFront:
    """What a job's trials are worth on one device.

    ``best`` keeps all limits and costs least of what is within the drop of accuracy. ``refusals`` says why so many
    trials cannot run on the device as they are. ``reference`` is the corner of the hypervolume.
    """

    target: DeviceTarget
    x: str
    points: tuple[PricedTrial, ...]
    best: PricedTrial | None
    trials: int
    feasible: int
    refusals: Mapping[str, int]
    hypervolume: float
    reference: Mapping[str, float]


def rerank(
    services: Services, job: JobRecord, targets: Sequence[DeviceTarget], *, x: str | None = None
) -> list[RerankedFront]:
    """Price a job's measured trials on devices and return the front of each, cheapest first.

    On devices of the job the stored prices hold, which are those of the profile as it was at submission.

    Args:
        services: What the service is made of.
        job: Finished or not; what it has measured by now counts.
        targets: The devices, and the limits that hold there.
        x: The cost to trade against accuracy; by default the job's first.

    Raises:
        NotFoundError: A device is not known.
        UnknownAxisError: The cost is not known.
    """
    axis = x or first_cost(JobSpec.from_json(job.spec))
    if axis not in X_AXES:
        raise UnknownAxisError("x", f"must be one of {', '.join(X_AXES)}", axis)
    others = {target.name: f"devices.{n}" for n, target in enumerate(targets) if target.name not in job.profiles}
    profiles = services.chosen_profiles(others)
    with services.database.read() as connection:
        stored = MeasuredTrials(connection, job.id, plans=bool(profiles))
    with ThreadPoolExecutor(max_workers=1) as beside:
        pricing = beside.submit(_priced, services, job, stored.plans, profiles) if stored.plans else None
        trials = stored.figures()
        own = [target.name for target in targets if target.name in job.profiles]
        row = itemgetter(*FIGURES)
        prices: dict[str, list[Row]] = {name: [row(trial.costs[name]) for trial in trials] for name in own}
        prices |= {} if pricing is None else pricing.result()
    accuracy = None if job.baseline is None else job.baseline.get("accuracy")
    return [_front(target, axis, trials, prices.get(target.name, []), accuracy) for target in targets]


def _priced(
    services: Services, job: JobRecord, plans: Sequence[str], profiles: Mapping[str, Profile]
) -> dict[str, list[Row]]:
    """Return the plans' prices by device; many plans are shared out among several processes."""
    model = find_model(services, job.model_id)
    parts = max(1, min(services.settings.ingest_concurrency, len(plans) // LEAST_PART))
    size = -(-len(plans) // parts)
    with graph_on_disk(services, model) as path, ThreadPoolExecutor(max_workers=parts) as beside:

        def priced(part: Sequence[str]) -> Mapping[str, list[Row]]:
            with _on_disk(services, part) as plans_path:
                parameters = {
                    "graph": str(path),
                    "tensors": model.description["tensors"],
                    "plans": str(plans_path),
                    "profiles": {name: profile.to_json() for name, profile in profiles.items()},
                }
                with services.ingest.run("prices", parameters) as reply:
                    found: Mapping[str, list[Row]] = reply.result["prices"]
                    return found

        found = list(beside.map(priced, [plans[start : start + size] for start in range(0, len(plans), size)]))
    return {name: [row for prices in found for row in prices[name]] for name in profiles}


@contextmanager
def _on_disk(services: Services, plans: Sequence[str]) -> Iterator[Path]:
    """Give the path of a file with one plan in each line for the length of the block."""
    path = services.settings.temporary / f"plans-{new_id()}"
    try:
        path.write_text("\n".join(plans))
        yield path
    finally:
        path.unlink(missing_ok=True)


def _front(
    target: DeviceTarget,
    axis: str,
    trials: Sequence[TrialFigures],
    prices: Sequence[Row],
    float_accuracy: float | None,
) -> RerankedFront:
    # By column: few of thousands of trials get onto a front, and only these become objects.
    figures = {
        name: np.array([row[place] for row in prices], dtype=float) for place, name in enumerate(COST_OBJECTIVES)
    }
    figures["packed_bytes"] = np.array([trial.packed_bytes for trial in trials], dtype=float)
    accuracies = np.array([trial.accuracy for trial in trials], dtype=float)
    deployable = np.array([row[DEPLOYABLE] for row in prices], dtype=bool)
    broken = [figures[name] / bound - 1 > 0 for name, bound in _bounds(target.limits).items()]
    feasible = np.flatnonzero(deployable & ~np.any([np.zeros_like(deployable), *broken], axis=0))
    costs = figures[axis]
    reference = {axis: REFERENCE_MARGIN * float(costs.max(initial=0.0)), "accuracy": 0.0}
    corners = np.column_stack([costs[feasible], -accuracies[feasible]])

    def priced(place: int) -> PricedTrial:
        return PricedTrial(trial=trials[place], costs=_costs(prices[place], target.limits))

    points: dict[tuple[float, ...], int] = {}  # of equal points the first one stands for all
    for place in np.flatnonzero(non_dominated(corners)):
        points.setdefault(tuple(corners[place]), int(feasible[place]))
    best = None
    if float_accuracy is not None:
        drop = USUAL_DROP if target.limits.accuracy_drop is None else target.limits.accuracy_drop
        within = feasible[float_accuracy - accuracies[feasible] <= drop + 1e-9]
        best = min(within.tolist(), key=lambda place: (costs[place], -accuracies[place], place), default=None)
    return RerankedFront(
        target=target,
        x=axis,
        points=tuple(priced(points[corner]) for corner in sorted(points)),
        best=None if best is None else priced(best),
        trials=len(trials),
        feasible=len(feasible),
        refusals=Counter(str(row[REASON] or "") for row in prices if not row[DEPLOYABLE]),
        hypervolume=hypervolume(corners, [reference[axis], 0.0]) if len(feasible) else 0.0,
        reference=reference,
    )


def _bounds(limits: Limits) -> dict[str, float]:
    bounds = {name: getattr(limits, name) for name in COST_OBJECTIVES}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _costs(row: Row, limits: Limits) -> DeviceCosts:
    price = dict(zip(FIGURES, row, strict=True))
    excess = {name: price[name] / bound - 1 for name, bound in _bounds(limits).items()}
    violations = {name: share for name, share in excess.items() if share > 0}
    return DeviceCosts(**price, violations=violations)
