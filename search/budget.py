"""When a search stops, and how long it will still take."""

from dataclasses import dataclass

SECONDS_PER_MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How far a search is; ``seconds_left`` is ``None`` while there is nothing to go by."""

    done: int
    total: int | None
    seconds_left: float | None


class BudgetMeter:
    """Counts trials and minutes against a budget; whichever runs out first ends the search.

    Times are those of any steadily growing clock, in seconds.

    Args:
        trials: Most trials, or ``None``.
        minutes: Most minutes, or ``None``.
        done: Trials that an earlier run of the same search has finished.
        spent_s: Seconds that earlier runs have taken.
        now: The clock at the start of this run.
    """

    def __init__(
        self, *, trials: int | None, minutes: float | None, now: float, done: int = 0, spent_s: float = 0.0
    ) -> None:
        if trials is None and minutes is None:
            raise ValueError("a budget needs a number of trials or of minutes")
        self._trials = trials
        self._seconds = None if minutes is None else minutes * SECONDS_PER_MINUTE
        self._done_before = done
        self._spent_before = spent_s
        self._start = now
        self.done = done

    def spent_s(self, now: float) -> float:
        """Return the seconds that the search has taken, earlier runs included."""
        return self._spent_before + now - self._start

    def exhausted(self, now: float, *, started: int) -> bool:
        """Tell whether no further trial may start when ``started`` have been, finished ones included."""
        out_of_trials = self._trials is not None and started >= self._trials
        return out_of_trials or (self._seconds is not None and self.spent_s(now) >= self._seconds)

    def pace(self, now: float) -> Pace:
        """Return how far the search is, at the rate of this run."""
        finished_here = self.done - self._done_before
        left: list[float] = []
        if self._seconds is not None:
            left.append(max(0.0, self._seconds - self.spent_s(now)))
        if self._trials is not None and finished_here > 0:
            left.append(max(0, self._trials - self.done) * (now - self._start) / finished_here)
        return Pace(done=self.done, total=self._trials, seconds_left=min(left) if left else None)
