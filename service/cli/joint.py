"""Does a front hold joint candidates, and if not, what beats them? Answered by the figures."""

from collections.abc import Iterable, Mapping
from typing import Any

from service import display
from service.api.schemas import FrontRead, TrialRead
from service.plan_summary import summarize
from workers.events import TrialStatus

DIMENSIONS = frozenset({"bits", "channels", "operator"})
_SHOWN = 3


def joint_lines(
    front: FrontRead, trials: Iterable[TrialRead], description: Mapping[str, Any] | None = None
) -> list[str]:
    """Say which trials of the front use bits, channels and operator at once, or what keeps such trials off it.

    Args:
        front: The front of one device.
        trials: All trials of the job.
        description: The model's description, for the means of the summary.
    """
    joint = sorted((trial for trial in front.points if _is_joint(trial)), key=lambda trial: -(trial.accuracy or 0.0))
    if joint:
        names = ", ".join(_in_words(trial, front, description) for trial in joint[:_SHOWN])
        return [
            f"Joint candidates: {len(joint)} of the {len(front.points)} on this front use bits, channels and operators "
            f"together. The most accurate: {names}."
        ]
    feasible = [
        trial
        for trial in trials
        if trial.status == TrialStatus.DONE and trial.feasible.get(front.device) and _is_joint(trial)
    ]
    if not feasible:
        return ["Joint candidates: none that uses bits, channels and operators together keeps the limits."]
    lines = [
        "Joint candidates: none that uses bits, channels and operators together is on this front. "
        "The most accurate, and what beats them:"
    ]
    for trial in sorted(feasible, key=lambda trial: -(trial.accuracy or 0.0))[:_SHOWN]:
        better = next((other for other in front.points if _beats(other, trial, front)), None)
        beaten = "" if better is None else f" — beaten by {_in_words(better, front, description)}"
        lines.append(f"  {_in_words(trial, front, description)}{beaten}")
    return lines


def _is_joint(trial: TrialRead) -> bool:
    return set(summarize(trial.plan).dimensions) >= DIMENSIONS


def _beats(one: TrialRead, other: TrialRead, front: FrontRead) -> bool:
    cheaper = _cost(one, front) <= _cost(other, front)
    better = (one.accuracy or 0.0) >= (other.accuracy or 0.0)
    return cheaper and better


def _cost(trial: TrialRead, front: FrontRead) -> float:
    if front.x == "packed_bytes":
        return float(trial.packed_bytes or 0)
    return float(getattr(trial.costs[front.device], front.x))


def _in_words(trial: TrialRead, front: FrontRead, description: Mapping[str, Any] | None) -> str:
    summary = summarize(trial.plan, description)
    replaced = len(summary.operators)
    return (
        f"{trial.label or f'trial {trial.number}'} ({display.accuracy(trial.accuracy)}, "
        f"{display.quantity(front.x, _cost(trial, front))}: {display.amount(summary.weight_bits)} bits, "
        f"{summary.channels_kept * 100:.0f} % of channels, {replaced} {'block' if replaced == 1 else 'blocks'} "
        "replaced)"
    )
