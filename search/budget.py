"""When a search stops, and how long it will still take."""

from collections.abc import Mapping
from dataclasses import dataclass

LEAST_GROWTH = 1e-3
"""Share by which a hypervolume must grow to count as growing."""

SECONDS_PER_MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How far a search is; ``seconds_left`` is ``None`` while there is nothing to go by."""

    done: int
    total: int | None
    seconds_left: float | None


class BudgetMeter:
    """Counts trials and minutes against a budget; whichever runs out first ends the search.

    With ``patience``, the search also ends when so many trials in a row have let no front's hypervolume grow by
    ``LEAST_GROWTH`` of what it was when it last did.

    Times are those of any steadily growing clock, in seconds.

    Args:
        trials: Most trials, or ``None``.
        minutes: Most minutes, or ``None``.
        patience: Most trials in a row without growth, or ``None``.
        done: Trials that an earlier run of the same search has finished.
        spent_s: Seconds that earlier runs have taken.
        now: The clock at the start of this run.
    """

    def __init__(
        self,
        *,
        trials: int | None,
        minutes: float | None,
        now: float,
        patience: int | None = None,
        done: int = 0,
        spent_s: float = 0.0,
    ) -> None:
        if trials is None and minutes is None and patience is None:
            raise ValueError("a budget needs a number of trials, of minutes, or of trials without growth")
        self._trials = trials
        self._seconds = None if minutes is None else minutes * SECONDS_PER_MINUTE
        self._done_before = done
        self._spent_before = spent_s
        self._start = now
        self.done = done
        self._patience = patience
        self._volumes: dict[str, float] = {}
        self._without_growth = 0

    def watch(self, volumes: Mapping[str, float]) -> None:
        """Take in the hypervolume of every front after a trial that counts; in the order of the trials."""
        grown = {
            name: volume
            for name, volume in volumes.items()
            if volume > self._volumes.get(name, 0.0) * (1 + LEAST_GROWTH)
        }
        self._volumes.update(grown)
        self._without_growth = 0 if grown else self._without_growth + 1

    def spent_s(self, now: float) -> float:
        """Return the seconds that the search has taken, earlier runs included."""
        return self._spent_before + now - self._start

    def exhausted(self, now: float, *, started: int) -> bool:
        """Tell whether no further trial may start when ``started`` have been, finished ones included."""
        out_of_trials = self._trials is not None and started >= self._trials
        out_of_time = self._seconds is not None and self.spent_s(now) >= self._seconds
        out_of_patience = self._patience is not None and self._without_growth >= self._patience
        return out_of_trials or out_of_time or out_of_patience

    def pace(self, now: float) -> Pace:
        """Return how far the search is, at the rate of this run."""
        finished_here = self.done - self._done_before
        left: list[float] = []
        if self._seconds is not None:
            left.append(max(0.0, self._seconds - self.spent_s(now)))
        if self._trials is not None and finished_here > 0:
            left.append(max(0, self._trials - self.done) * (now - self._start) / finished_here)
        return Pace(done=self.done, total=self._trials, seconds_left=min(left) if left else None)
