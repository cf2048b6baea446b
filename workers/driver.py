"""One job's run: prepares, searches, packages, and reports each step as an event until it is acknowledged.

Nothing here touches a database or a file. Whoever calls ``advance`` commits what comes back and acknowledges it with
the next call. An evaluator gets one more trial while the row of its last one is being committed, and no further one. A
driver may be killed at any moment: another one, started with the rows that were committed, goes on.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from compress.plan import Plan
from hwmodels.errors import InputError
from search.budget import BudgetMeter
from search.relaxed import RelaxedPoint
from workers.evaluator import Measurement
from workers.events import (
    CheckpointReady,
    Evaluation,
    Event,
    JobEnded,
    Prepared,
    Progress,
    SensitivityMeasured,
    StatusChanged,
    Trial,
    TrialEnded,
    TrialStarted,
    TrialStatus,
)
from workers.finalists import finalists
from workers.fit import Ranges, reachable_ranges
from workers.groundwork import Findings, Groundwork, Ranking, Work, to_call
from workers.job import JobData, load_job
from workers.live_fronts import LiveFronts
from workers.outbox import Outbox
from workers.packaging import Package
from workers.pool import Finished, Pool
from workers.problem import Problem
from workers.search_run import SearchRun
from workers.sensitivity import NEEDS_TABLE, Probe, choice_tables, effect, plan_of, probes
from workers.split import least_drop, resolvable_drop, search_signal
from workers.start import DriverStart

WAIT_S = 0.2  # the longest that a call waits for something to happen
FAILURES_IN_A_ROW = 5  # before a job is given up
PATIENCE = 50.0  # times what measuring the float network took, beside what the start says
PREPARING_PATIENCE_S = 3600.0
FINETUNING_PATIENCE_S = 7 * 86400.0  # the user says how many epochs; days on a CPU are their choice
INFEASIBLE_PER_CALL = 8
ALONE_S = 5.0  # that a search runs with the first evaluator
PROBES_PER_CALL = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Call:
    """What an evaluator is busy with: a trial, probes of single choices, groundwork, a relaxed loss, or preparing."""

    trial: Trial | None
    probes: tuple[Probe, ...]
    work: Work | None
    point: RelaxedPoint | None
    since: float
    until: float


class PreparationError(Exception):
    """An evaluator could not prepare; no trial could be evaluated."""


class Driver:
    """Runs one job; every call of ``advance`` moves it on.

    Args:
        start: The job, and what earlier runs of it have found.
        make_pool: Makes the evaluators once the job is unpacked.
    """

    def __init__(self, start: DriverStart, make_pool: Callable[[JobData], Pool]) -> None:
        self._make_pool = make_pool
        self._least_patience_s = start.patience_s
        self._outbox = Outbox()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="driver")
        self._loading = self._thread.submit(load_job, start)
        self._close_pool: Callable[[], None] = lambda: None
        self._calls: dict[int, _Call] = {}
        self._ready: set[int] = set()  # slots whose evaluator is prepared and free
        self._again: deque[Trial] = deque()  # their evaluator was lost
        self._retried: set[int] = set()
        self._failures: list[str] = []  # in a row
        self._float: Measurement | None = None
        self._unprobed: deque[Probe] = deque()
        self._divergences: dict[Probe, float] = {}
        self._found = Findings()
        self._alone = True  # the first evaluator
        self._late: set[int] = set()  # slots whose evaluator was not prepared when that was found
        self._over = False
        self._step: Callable[[], None] = self._load

    def advance(self, acknowledged: int) -> list[tuple[int, Event]]:
        """Return all events after ``acknowledged``, waiting a little if there is nothing to say yet."""
        self._outbox.acknowledge(acknowledged)
        if not self._outbox.pending:
            try:
                self._step()
            except (InputError, PreparationError) as error:
                self._end("failed", str(error))
            except Exception as error:  # a job that says why it failed beats one that hangs
                logger.exception("the driver failed")
                self._end("failed", f"internal error: {type(error).__name__}: {error}")
        return list(self._outbox.pending)

    def _load(self) -> None:
        self._outbox.emit(StatusChanged(status="preparing"))
        self._step = self._start_evaluators

    def _start_evaluators(self) -> None:
        if not _arrived(self._loading):
            return
        self._job = self._loading.result()
        self._opening = self._thread.submit(_open, self._job)
        self._pool = self._make_pool(replace(self._job, trials=(), groundwork={}))
        self._close_pool = self._pool.close
        self._call(0, None, "prepare", PREPARING_PATIENCE_S)
        self._step = self._prepare

    def _prepare(self) -> None:
        self._take()
        if self._float is None or not _arrived(self._opening):
            return
        self._problem, self._ranges = self._opening.result()
        drop = least_drop(self._job.spec)
        self._signal, warning = search_signal(
            self._float.accuracy, self._float.images, drop, data_free=self._job.spec.data_free
        )
        self._outbox.emit(
            Prepared(
                baseline=_float_evaluation(self._problem, self._float),
                split=self._job.split.sizes(),
                variables={variable.name: variable.choices for variable in self._problem.space.variables},
                ranges=self._ranges,
                resolvable_drop=resolvable_drop(self._float.accuracy, self._float.images),
                signal=self._signal,
                warning=warning,
            )
        )
        self._groundwork = Groundwork(self._problem, foundation=self._job.foundation, stored=self._job.groundwork)
        self._step = self._lay_groundwork

    def _lay_groundwork(self) -> None:
        """Rank channels and train replacements of blocks, and then give every evaluator all of that."""
        for slot in sorted(self._ready):
            work = self._groundwork.next()
            if work is None:
                break
            self._start_others()
            method, arguments = to_call(work)
            self._call(slot, None, method, PREPARING_PATIENCE_S, work=work, **arguments)
        if not self._groundwork.over:
            self._take()
            return
        self._found = self._groundwork.found
        self._late = set(self._calls)  # a cluster may have no CPU for them for hours
        if self._found:
            for slot in sorted(self._ready):
                self._call(slot, None, "adopt", PREPARING_PATIENCE_S, found=self._found)
        self._begin_probing()

    def _begin_probing(self) -> None:
        if self._job.spec.strategy in NEEDS_TABLE:
            self._recall()
        self._step = self._probe

    def _recall(self) -> None:
        """Look up what earlier runs have measured of single choices; what is missing has to be probed."""
        rows = []
        for probe in probes(self._problem):
            known = self._job.sensitivities.get(plan_of(self._problem, probe).digest())
            if known is None:
                self._unprobed.append(probe)
            else:
                self._divergences[probe] = known[0]
                rows.append(effect(self._problem, probe, *known))
        if rows:
            self._outbox.emit(SensitivityMeasured(rows=tuple(rows)))

    def _probe(self) -> None:
        """Measure what single choices do, if the strategy wants to know, before the search begins."""
        self._give_out_probes()
        if any(call.probes for call in self._calls.values()):
            self._take()
            self._give_out_probes()
        elif not self._unprobed:
            self._begin_search()
        else:
            self._take()

    def _give_out_probes(self) -> None:
        for slot in [] if self._over else sorted(self._ready):
            if not self._unprobed:
                break
            self._start_others()
            batch = tuple(self._unprobed.popleft() for _ in range(min(PROBES_PER_CALL, len(self._unprobed))))
            plans = [plan_of(self._problem, probe).to_json() for probe in batch]
            self._call(slot, None, "sensitivities", self._patience_s * len(batch), probes=batch, plans=plans)

    def _begin_search(self) -> None:
        tables = choice_tables(self._problem, self._divergences) if self._divergences else None
        self._run = SearchRun(
            self._problem,
            float_accuracy=self._float_accuracy,
            stored=self._job.trials,
            tables=tables,
            signal=self._signal,
        )
        self._outbox.emit(StatusChanged(status="searching"))
        budget = self._job.spec.budget
        self._meter = BudgetMeter(
            trials=budget.trials,
            minutes=budget.minutes,
            patience=budget.patience,
            now=time.monotonic(),
            done=len(self._run.ended),
            spent_s=self._job.spent_s,
        )
        self._exhausted = False
        self._ahead: Trial | None = None
        self._point: RelaxedPoint | None = None  # whose loss the strategy waits for
        self._started = {trial.number for trial in self._job.trials}
        fronts = LiveFronts(self._job.spec)
        for trial in self._run.ended:
            fronts.add(trial)
            self._watch(trial, fronts)
        self._others_due = time.monotonic() + ALONE_S
        self._step = self._search

    def _search(self) -> None:
        """Keep every evaluator busy, with one more trial at hand for the first that gets free.

        An evaluator goes on with that one while the row of its last trial is being committed, and no further: only
        when all that was reported is acknowledged, another step is made.
        """
        self._give_out()
        if time.monotonic() > self._others_due:
            self._start_others()
        if any(call.trial for call in self._calls.values()):
            self._ahead = self._ahead or self._next_trial()
            if not self._outbox.pending:
                self._take()
                self._give_out()
        elif not self._outbox.pending:
            if self._out_of_trials and not self._again and (self._ahead is None or self._too_late(self._ahead)):
                self._begin_packaging()
            else:
                self._take()

    def _give_out(self) -> None:
        for slot in [] if self._over else sorted(self._ready):
            trial = self._next_to_run()
            if trial is None:
                self._give_out_point(slot)
                break
            self._started.add(trial.number)
            rivals = self._run.rivals(trial)
            self._call(slot, trial, "evaluate", self._patience_s, plan=trial.plan, rivals=rivals)
            self._outbox.emit(TrialStarted(trial=trial))

    def _give_out_point(self, slot: int) -> None:
        """Let an evaluator find the relaxed loss that the strategy waits for, unless another one does already."""
        if self._point is not None and not any(call.point for call in self._calls.values()):
            point = self._point
            self._call(
                slot,
                None,
                "relax",
                PREPARING_PATIENCE_S,  # the first one lays out every choice of every layer
                point=point,
                probabilities=point.probabilities,
                batch=point.batch,
            )

    def _next_to_run(self) -> Trial | None:
        if self._again:
            return self._again.popleft()
        self._ahead = self._ahead or self._next_trial()
        if self._ahead is None or self._too_late(self._ahead):
            return None
        trial, self._ahead = self._ahead, None
        return trial

    def _next_trial(self) -> Trial | None:
        """Return the next trial that needs an evaluator; those that end without one are reported on the way."""
        for _ in range(INFEASIBLE_PER_CALL):
            if self._out_of_trials:
                return None
            self._point = self._point or self._run.point()
            if self._point is not None:
                return None
            trial = self._run.next()
            if trial is None:
                self._exhausted = True
                return None
            if trial.status is TrialStatus.RUNNING:
                return trial
            self._report(trial)
        return None

    def _too_late(self, trial: Trial) -> bool:
        """Whether a trial that nobody knows of yet would start after the search has run out of time or patience."""
        return trial.number not in self._started and self._meter.exhausted(time.monotonic(), started=0)

    @property
    def _out_of_trials(self) -> bool:
        if self._run.interrupted:
            return False
        return self._exhausted or self._meter.exhausted(time.monotonic(), started=self._run.started)

    def _watch(self, trial: Trial, fronts: LiveFronts) -> None:
        """Let a budget that ends when nothing gets better look at the fronts after a measured trial."""
        if self._job.spec.budget.patience is not None and trial.status in (TrialStatus.DONE, TrialStatus.STOPPED):
            largest = {
                device: {cost: row["largest"] for cost, row in costs.items()} for device, costs in self._ranges.items()
            }
            self._meter.watch(fronts.volumes(largest))

    def _begin_packaging(self) -> None:
        self._finalists = deque(
            trial
            for trial in finalists(self._run.ended, self._job.spec, float_accuracy=self._float_accuracy)
            if trial.number not in self._job.packaged
        )
        self._retried.clear()
        if len(self._finalists) > 1:
            self._start_others()
        self._outbox.emit(StatusChanged(status="packaging"))
        self._step = self._package

    def _package(self) -> None:
        spec = self._job.spec
        for slot in sorted(self._ready):
            if not self._again and not self._finalists:
                break
            trial = self._again.popleft() if self._again else self._finalists.popleft()
            evaluation = _measured(trial)
            self._call(
                slot,
                trial,
                "package",
                self._patience_s + (PREPARING_PATIENCE_S if spec.finetune is None else FINETUNING_PATIENCE_S),
                plan=trial.plan,
                number=trial.number,
                measured_correct=evaluation.correct,
                price=self._run.price(trial),
            )
        if self._finalists or self._again or any(call.trial for call in self._calls.values()):
            self._take()
        else:
            self._end("done", self._remark())

    def _take(self) -> None:
        """Take in what evaluators have finished, and replace those that are lost or take too long."""
        losses: list[str] = []
        for finished in self._pool.wait(WAIT_S):
            call = self._calls.pop(finished.slot)
            if finished.lost:
                losses += self._lost(finished.slot, call, finished.error or "the evaluator was lost")
                continue
            self._ready.add(finished.slot)
            if call.probes:
                self._probed(call.probes, finished)
            elif call.work is not None:
                self._laid(call.work, finished)
            elif call.point is not None:
                self._relaxed(finished, time.monotonic() - call.since)
            elif call.trial is None:
                self._prepared(finished)
            elif isinstance(finished.value, Package):
                self._packed(call.trial, finished.value)
            elif isinstance(finished.value, Measurement):
                self._measured(call.trial, finished.value, time.monotonic() - call.since)
            else:
                self._failed(call.trial, finished.error or "no result")
        for slot, call in list(self._calls.items()):
            if time.monotonic() > call.until:
                self._pool.abandon(slot)
                del self._calls[slot]
                losses += self._lost(slot, call, f"no answer within {call.until - call.since:.0f} s")
        self._failures += losses[:1]  # several at once are one failure: that of their machine
        if len(self._failures) >= FAILURES_IN_A_ROW:
            causes = "; ".join(dict.fromkeys(self._failures))
            self._end("failed", f"{len(self._failures)} failures in a row, nothing succeeded in between: {causes}")

    def _start_others(self) -> None:
        """Start the evaluators besides the first: with work for several, or a search that has gone on for a while.

        Importing what they need takes seconds of a processor. Where there are few and a job goes on after a crash, the
        first one alone ends its first trials sooner; where there are many, the others come these seconds later.
        """
        if not self._alone:
            return
        self._alone = False
        for slot in range(1, self._pool.size):
            self._call(slot, None, "prepare", self._preparing_patience_s)
            self._late.add(slot)

    def _prepared(self, finished: Finished) -> None:
        if finished.error is not None:
            raise PreparationError(finished.error)
        if self._float is None:
            self._float = finished.value
        if self._found and finished.slot in self._late:
            self._late.remove(finished.slot)
            self._call(finished.slot, None, "adopt", PREPARING_PATIENCE_S, found=self._found)

    def _probed(self, batch: tuple[Probe, ...], finished: Finished) -> None:
        if finished.error is not None:
            raise PreparationError(f"measuring single choices failed: {finished.error}")
        self._failures.clear()
        measured = list(zip(batch, finished.value, strict=True))
        self._divergences.update({probe: divergence for probe, (divergence, _) in measured})
        rows = tuple(effect(self._problem, probe, divergence, loss) for probe, (divergence, loss) in measured)
        self._outbox.emit(SensitivityMeasured(rows=rows))

    def _laid(self, work: Work, finished: Finished) -> None:
        if finished.error is not None:
            what = "ranking channels" if isinstance(work, Ranking) else "training a replacement"
            raise PreparationError(f"{what} failed: {finished.error}")
        self._failures.clear()
        for event in self._groundwork.finished(work, finished.value):
            self._outbox.emit(event)

    def _relaxed(self, finished: Finished, elapsed_s: float) -> None:
        if finished.error is not None:
            self._failures.append(f"differentiating: {finished.error}")  # and the same point is asked for again
            return
        self._failures.clear()
        self._point = None
        self._run.descend(finished.value, seconds=elapsed_s)

    def _measured(self, trial: Trial, measurement: Measurement, elapsed_s: float) -> None:
        self._failures.clear()
        dispatch_s = max(0.0, elapsed_s - measurement.seconds["apply"] - measurement.seconds["forward"])
        self._report(self._run.measured(trial, measurement, dispatch_s=dispatch_s))

    def _packed(self, trial: Trial, package: Package) -> None:
        self._failures.clear()
        self._outbox.emit(
            CheckpointReady(
                number=trial.number,
                files=package.files,
                verification=package.verification,
                verified=package.verified,
            )
        )

    def _failed(self, trial: Trial, error: str) -> None:
        self._failures.append(f"trial {trial.number}: {error}")
        if trial.status is TrialStatus.RUNNING:
            self._report(self._run.failed(trial, error))
        else:
            self._outbox.emit(
                CheckpointReady(number=trial.number, files={}, verification={"failures": [error]}, verified=False)
            )

    def _lost(self, slot: int, call: _Call, error: str) -> list[str]:
        """Prepare a slot's new evaluator. Its trial runs once more, under its number, before it counts as failed.

        Returns:
            What was lost, if no trial was.
        """
        self._call(slot, None, "prepare", self._preparing_patience_s, found=self._found)
        if self._float is not None:  # else this was the first, and it must come
            self._start_others()
        if call.trial is None:
            if call.work is not None:
                self._groundwork.again(call.work)
            self._unprobed.extend(call.probes)
            return [f"{'preparing' if call.point is None else 'differentiating'}: {error}"]
        if call.trial.number in self._retried:
            self._failed(call.trial, error)
        else:
            self._retried.add(call.trial.number)
            self._again.append(call.trial)
        return []

    def _report(self, trial: Trial) -> None:
        self._meter.done += 1
        self._watch(trial, self._run.fronts)
        pace = self._meter.pace(time.monotonic())
        self._outbox.emit(TrialEnded(trial=trial))
        self._outbox.emit(Progress(done=pace.done, total=pace.total, seconds_left=pace.seconds_left))

    def _call(
        self,
        slot: int,
        trial: Trial | None,
        method: str,
        patience_s: float,
        *,
        probes: tuple[Probe, ...] = (),
        work: Work | None = None,
        point: RelaxedPoint | None = None,
        **arguments: Any,
    ) -> None:
        self._ready.discard(slot)
        self._pool.submit(slot, method, **arguments)
        now = time.monotonic()
        self._calls[slot] = _Call(trial, probes, work, point, now, now + patience_s)

    def _end(self, status: str, reason: str | None) -> None:
        self._outbox.emit(JobEnded(status=status, reason=reason))
        self._over = True
        self._step = lambda: None
        self.close()

    def close(self) -> None:
        """End the evaluators; there is nothing to save."""
        self._close_pool()
        self._calls.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _remark(self) -> str | None:
        """Say why a search that went through has found nothing."""
        if any(trial.status is TrialStatus.DONE for trial in self._run.ended):
            return None
        return "no candidate that was tried keeps the limits of any device"

    @property
    def _float_accuracy(self) -> float:
        return 0.0 if self._float is None else self._float.accuracy

    @property
    def _preparing_patience_s(self) -> float:
        """The first evaluator must come; others may wait for room on a cluster as long as that one works."""
        return PREPARING_PATIENCE_S if self._float is None else math.inf

    @property
    def _patience_s(self) -> float:
        forward_s = 0.0 if self._float is None else self._float.seconds["forward"]
        return self._least_patience_s + PATIENCE * forward_s


def _open(job: JobData) -> tuple[Problem, Ranges]:
    problem = Problem(job.spec, job.shapes, job.structure, job.profiles)
    return problem, reachable_ranges(problem)


def _arrived(future: Future[Any]) -> bool:
    return bool(wait([future], timeout=WAIT_S).done)


def _float_evaluation(problem: Problem, measurement: Measurement) -> Evaluation:
    price = problem.pricing.price(Plan())
    return Evaluation(
        costs=price.costs,
        packed_bytes=price.packed_bytes,
        macs=price.macs,
        bit_ops=price.bit_ops,
        accuracy=measurement.accuracy,
        correct=measurement.correct,
        images=measurement.images,
        seconds=measurement.seconds,
    )


def _measured(trial: Trial) -> Evaluation:
    if trial.evaluation is None:
        raise ValueError(f"trial {trial.number} was not measured")
    return trial.evaluation
