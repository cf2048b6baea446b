"""The search of one job between its evaluations: which trial is next, and what the study learns from one."""

import base64
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compress.plan import Plan
from search.relaxed import RelaxedLoss, RelaxedPoint
from search.repair import repair
from search.space import Candidate
from search.strategies import Direction, Score
from search.study import Asked, Study
from search.table import ChoiceTable
from workers.baselines import single_dimension_baselines
from workers.evaluator import WORST_DIVERGENCE, Measurement
from workers.events import DeviceCosts, Evaluation, Origin, Trial, TrialStatus
from workers.fit import feasible_floors
from workers.live_fronts import LiveFronts
from workers.pricing import Price, plan_key
from workers.problem import Problem
from workers.sensitivity import assumed_divergences, choice_tables
from workers.spec import COST_OBJECTIVES, DeviceTarget
from workers.split import ACCURACY, DIVERGENCE

ACCURACY_DROP = "accuracy_drop"
DEPLOYABLE = "deployable"

TOLD = (TrialStatus.DONE, TrialStatus.STOPPED, TrialStatus.INFEASIBLE)

_REPAIR_STREAM = 1  # keeps the randomness of repairs apart from the study's


class SearchRun:
    """Gives out trials and takes back what was measured of them.

    Baselines come first, then what the study proposes, repaired towards the limits of the device whose turn it is.
    Trials that an earlier run has stored are taken in at the start; those that were running come again, under their
    numbers, before anything new.

    Args:
        problem: Space and prices.
        float_accuracy: What drops are counted from.
        stored: The trials of earlier runs.
        tables: What single choices do, by device, for strategies that start from that.
        signal: What candidates are ranked by, from ``split.search_signal``.

    A trial is asked for while the one before is being measured, so that no evaluator waits for that. So that a resumed
    search makes the same proposals, the study always learns of a measured trial only when the next but one is asked.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        float_accuracy: float,
        stored: Sequence[Trial] = (),
        tables: Mapping[str, ChoiceTable] | None = None,
        signal: str = ACCURACY,
    ) -> None:
        self._problem = problem
        self._spec = problem.spec
        self._float_accuracy = float_accuracy
        self._signal = signal
        self.fronts = LiveFronts(self._spec)
        self._floors = {device.name: feasible_floors(problem, device.name) for device in self._spec.devices}
        self._tables = tables or choice_tables(problem, assumed_divergences(problem))
        self._study = Study(
            problem.space,
            strategy=self._spec.strategy,
            directions=_directions(self._spec.objectives),
            targets=[device.name for device in self._spec.devices],
            seed=self._spec.seed,
            trials=self._spec.budget.trials,
            tables=self._tables,
            key=lambda candidate: plan_key(problem.decode(candidate)),
        )
        in_order = sorted(stored, key=lambda trial: trial.number)
        self._interrupted = deque(trial for trial in in_order if trial.status is TrialStatus.RUNNING)
        self.ended = [trial for trial in in_order if trial.status is not TrialStatus.RUNNING]
        self._untold: list[Trial] = []
        self._last_given = max((row.number for row in stored if row.status is not TrialStatus.INFEASIBLE), default=-1)
        for trial in in_order:
            self._learn(trial)
            self.fronts.add(trial)
        baselines = [
            *problem.baselines(),
            *single_dimension_baselines(problem, self._tables[self._spec.devices[0].name]),
        ]
        tried = {trial.label for trial in stored if trial.origin is Origin.BASELINE}
        self._baselines = deque(row for row in baselines if row.label not in tried)
        self._next_number = max((trial.number + 1 for trial in stored), default=0)
        self._seconds: dict[int, dict[str, float]] = {}  # by number, until the trial ends
        self._relaxed_images, self._relaxed_s = 0.0, 0.0  # for the next proposal
        self._evaluations: dict[int, Evaluation] = {}  # what is known of running trials before they are measured

    @property
    def started(self) -> int:
        """How many trials have been given out, those of earlier runs included."""
        return self._next_number - len(self._interrupted)

    @property
    def interrupted(self) -> int:
        """How many trials of an earlier run are still to be run again."""
        return len(self._interrupted)

    def price(self, trial: Trial) -> Price:
        """Return what the trial's plan costs."""
        return self._problem.pricing.price(Plan.from_json(trial.plan))

    def point(self) -> RelaxedPoint | None:
        """Return where the strategy wants a relaxed loss before the next trial can be given out."""
        if self._interrupted or self._baselines:
            return None
        self._tell()
        return self._study.point(self._next_number)

    def descend(self, found: RelaxedLoss, *, seconds: float) -> None:
        """Hand over the loss at the last point; what it took is put down to the next trial."""
        self._relaxed_images += found.images
        self._relaxed_s += seconds
        self._study.descend(self._next_number, found)

    def next(self) -> Trial | None:
        """Return the next trial: ``running``, or ``infeasible`` and ended if it breaks the limits of every device.

        Baselines come first and always run, whatever they cost: they are what the search is compared with.
        ``None`` if the space has nothing new.
        """
        if self._interrupted:
            return self._interrupted.popleft()
        number = self._next_number
        trial = self._baseline(number) if self._baselines else self._proposed(number)
        if trial is None:
            return None
        self._next_number += 1
        if trial.status is not TrialStatus.RUNNING:
            return self._ended(trial)
        self._last_given = number
        return trial

    def rivals(self, trial: Trial) -> list[bytes]:
        """Return what those trials got right that a trial must beat to join a front; see ``early_stopping``.

        Nothing where it would join whatever it got right. Baselines have no rivals: they are measured to the end.
        """
        if trial.origin is Origin.BASELINE or not self._spec.early_stopping:
            return []
        return self.fronts.rivals(self._priced(trial))

    def measured(self, trial: Trial, measurement: Measurement, *, dispatch_s: float) -> Trial:
        """Return the trial as it ended."""
        evaluation = replace(
            self._priced(trial),
            accuracy=measurement.accuracy,
            correct=measurement.correct,
            images=measurement.images,
            divergence=measurement.divergence,
            drop_bound=measurement.drop_bound,
            right=base64.b64encode(measurement.right).decode(),
            seconds={**self._seconds.pop(trial.number, {}), **measurement.seconds, "dispatch": dispatch_s},
        )
        status = TrialStatus.STOPPED if measurement.stopped else TrialStatus.DONE
        ended = replace(trial, status=status, evaluation=evaluation)
        if not self.fronts.add(ended):  # never a rival: nobody will ask what it got right
            ended = replace(ended, evaluation=replace(evaluation, right=None))
        return self._ended(ended)

    def failed(self, trial: Trial, error: str) -> Trial:
        """Return the trial as it failed; its candidate is not tried again."""
        evaluation = replace(self._priced(trial), seconds=self._seconds.pop(trial.number, {}), error=error)
        return self._ended(replace(trial, status=TrialStatus.FAILED, evaluation=evaluation))

    def _baseline(self, number: int) -> Trial:
        baseline = self._baselines.popleft()
        candidate = {} if baseline.candidate is None else baseline.candidate.to_json()
        trial = _running(number, Origin.BASELINE, candidate, baseline.plan, label=baseline.label)
        if baseline.candidate is not None:
            self._study.know(baseline.candidate)
        start = time.perf_counter()
        self._priced(trial)
        self._seconds[number] = {"price": time.perf_counter() - start}
        return trial

    def _proposed(self, number: int) -> Trial | None:
        rng = np.random.default_rng([self._spec.seed, number, _REPAIR_STREAM])
        repaired: set[Candidate] = set()
        repair_s = 0.0

        def adjust(candidate: Candidate, device: str) -> Candidate:
            nonlocal repair_s
            start = time.perf_counter()
            result = self._repaired(candidate, device, rng)
            if result != candidate:
                repaired.add(result)
            repair_s += time.perf_counter() - start
            return result

        start = time.perf_counter()
        self._tell()
        told = time.perf_counter()
        asked = self._study.ask(number, adjust=adjust)
        sampler_s = time.perf_counter() - told - repair_s
        if asked is None:
            return None
        candidate = _with_sampler(
            asked, repaired=asked.candidate in repaired, relaxed_images=round(self._relaxed_images, 1)
        )
        trial = _running(number, Origin.SEARCH, candidate, self._problem.decode(asked.candidate))
        seconds = {"tell": told - start, "sampler": sampler_s, "repair": repair_s}
        if self._relaxed_s:
            seconds["relax"] = self._relaxed_s
        self._relaxed_images, self._relaxed_s = 0.0, 0.0
        return self._checked(trial, seconds)

    def _repaired(self, candidate: Candidate, device: str, rng: np.random.Generator) -> Candidate:
        floors = self._floors[device]
        if not floors:
            return candidate
        found = repair(
            candidate,
            space=self._problem.space,
            feasible=lambda tried: self._problem.costs(tried, device).feasible,
            floors=floors,
            table=self._tables[device],
            rng=rng,
        )
        return candidate if found is None else found

    def _checked(self, trial: Trial, seconds: dict[str, float]) -> Trial:
        """Price a proposed trial; where no device can take it, it has ended already."""
        start = time.perf_counter()
        evaluation = self._priced(trial)
        seconds["price"] = time.perf_counter() - start
        if any(costs.feasible for costs in evaluation.costs.values()):
            self._seconds[trial.number] = seconds
            return trial
        return replace(trial, status=TrialStatus.INFEASIBLE, evaluation=replace(evaluation, seconds=seconds))

    def _ended(self, trial: Trial) -> Trial:
        self._evaluations.pop(trial.number, None)
        self._learn(trial)
        self.ended.append(trial)
        return trial

    def _learn(self, trial: Trial) -> None:
        """Let the study know of a trial that runs or ended; it is told what became of it when it next is asked."""
        if "indices" not in trial.candidate:
            return
        self._study.know(Candidate.from_json(trial.candidate))
        if trial.status in TOLD and trial.evaluation is not None:
            self._untold.append(trial)

    def _tell(self) -> None:
        """Tell the study of the trials that ended, but not of the last one that went to an evaluator.

        The order is that of a search that one evaluator ran through: it is part of what proposals depend on.
        """
        held: Trial | None = None
        for trial in sorted(self._untold, key=lambda trial: trial.number):
            if trial.status is TrialStatus.INFEASIBLE:
                self._tell_one(trial)
            else:
                if held is not None:
                    self._tell_one(held)
                held = trial
        self._untold = []
        if held is not None and held.number == self._last_given:
            self._untold = [held]
        elif held is not None:
            self._tell_one(held)

    def _tell_one(self, trial: Trial) -> None:
        if trial.evaluation is not None:
            candidate = Candidate.from_json(trial.candidate)
            self._study.tell(candidate, self._scores(trial.evaluation), trial.candidate.get("sampler"))

    def _scores(self, evaluation: Evaluation) -> dict[str, Score]:
        # What was not measured is worth nothing; the broken limits keep it behind everything that was.
        accuracy = evaluation.accuracy or 0.0
        worst = WORST_DIVERGENCE if evaluation.divergence is None else evaluation.divergence
        worth = -worst if self._signal == DIVERGENCE else accuracy
        return {
            device.name: Score(
                values=(worth, *(float(getattr(evaluation.costs[device.name], name)) for name in self._costs)),
                violations=self._violations(evaluation.costs[device.name], device, accuracy),
            )
            for device in self._spec.devices
        }

    def _violations(self, costs: DeviceCosts, device: DeviceTarget, accuracy: float) -> dict[str, float]:
        bounded = [name for name in COST_OBJECTIVES if getattr(device.limits, name) is not None]
        found = {name: costs.violations.get(name, 0.0) for name in bounded}
        found[DEPLOYABLE] = 0.0 if costs.deployable else 1.0
        if device.limits.accuracy_drop is not None:
            found[ACCURACY_DROP] = max(0.0, self._float_accuracy - accuracy - device.limits.accuracy_drop)
        return found

    @property
    def _costs(self) -> tuple[str, ...]:
        return self._spec.objectives[1:]

    def _priced(self, trial: Trial) -> Evaluation:
        if trial.number not in self._evaluations:
            price = self.price(trial)
            self._evaluations[trial.number] = Evaluation(
                costs=price.costs,
                packed_bytes=price.packed_bytes,
                macs=price.macs,
                bit_ops=price.bit_ops,
                relaxed_images=trial.candidate.get("sampler", {}).get("relaxed_images", 0.0),
            )
        return self._evaluations[trial.number]


def _running(number: int, origin: Origin, candidate: Mapping[str, Any], plan: Plan, *, label: str = "") -> Trial:
    return Trial(
        number=number, origin=origin, label=label, candidate=candidate, plan=plan.to_json(), status=TrialStatus.RUNNING
    )


def _with_sampler(asked: Asked, *, repaired: bool, relaxed_images: float) -> dict[str, Any]:
    sampler = {**asked.sampler, "repaired": repaired}
    if relaxed_images:
        sampler["relaxed_images"] = relaxed_images
    return {**asked.candidate.to_json(), "sampler": sampler}


def _directions(objectives: Sequence[str]) -> tuple[Direction, ...]:
    costs: list[Direction] = ["minimize" for _ in objectives[1:]]
    return ("maximize", *costs)
