"""Which trials are packed and verified when the search is over."""

from collections.abc import Sequence

import numpy as np

from search.pareto import non_dominated
from workers.events import Evaluation, Trial, TrialStatus
from workers.spec import USUAL_DROP, JobSpec

CHECKPOINTS_PER_DEVICE = 6


def finalists(trials: Sequence[Trial], spec: JobSpec, *, float_accuracy: float) -> list[Trial]:
    """Return the trials of each device's front that are worth a checkpoint, best first, each once.

    Best is within the allowed drop and cheapest in the first cost objective, ties to accuracy; those that the images
    clear of a drop that counts come before those that may be within by chance (``cleared``). What drops further follows
    by its accuracy. Devices take turns, so that each one's best come early.
    """
    ranked = [
        _ranked(trials, spec, number, float_accuracy)[:CHECKPOINTS_PER_DEVICE] for number in range(len(spec.devices))
    ]
    turns = [row[place] for place in range(CHECKPOINTS_PER_DEVICE) for row in ranked if place < len(row)]
    return list({trial.number: trial for trial in turns}.values())


def front(trials: Sequence[Trial], objectives: Sequence[str], device: str) -> list[Trial]:
    """Return the feasible, evaluated trials that no other one beats on this device."""
    feasible = [
        trial
        for trial in trials
        if trial.status is TrialStatus.DONE
        and trial.evaluation is not None
        and device in trial.evaluation.costs
        and trial.evaluation.costs[device].feasible
    ]
    if not feasible:
        return []
    kept = non_dominated(np.array([_point(trial, objectives, device) for trial in feasible]))
    return [trial for trial, keep in zip(feasible, kept, strict=True) if keep]


def cleared(evaluation: Evaluation | None, allowed: float) -> bool:
    """Tell whether the images rule out a drop that is neither allowed nor small."""
    return (
        evaluation is not None
        and evaluation.drop_bound is not None
        and evaluation.drop_bound <= max(allowed, USUAL_DROP)
    )


def _ranked(trials: Sequence[Trial], spec: JobSpec, number: int, float_accuracy: float) -> list[Trial]:
    device = spec.devices[number]
    allowed = USUAL_DROP if device.limits.accuracy_drop is None else device.limits.accuracy_drop

    def rank(trial: Trial) -> tuple[bool, bool, float, float]:
        accuracy, *costs = _point(trial, spec.objectives, device.name)
        if float_accuracy + accuracy > allowed:
            return (True, True, accuracy, costs[0])
        return (False, not cleared(trial.evaluation, allowed), costs[0], accuracy)

    return sorted(front(trials, spec.objectives, device.name), key=rank)


def _point(trial: Trial, objectives: Sequence[str], device: str) -> list[float]:
    """Return the trial's objectives, all to be minimised, the negated accuracy first."""
    if trial.evaluation is None or trial.evaluation.accuracy is None:
        raise ValueError(f"trial {trial.number} was not measured")
    costs = trial.evaluation.costs[device]
    return [-trial.evaluation.accuracy, *(float(getattr(costs, name)) for name in objectives[1:])]
