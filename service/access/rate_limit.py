"""How often somebody may ask: a bucket of requests that fills at a steady rate."""

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_KEYS = 10_000  # buckets that are kept; the one used longest ago goes, and would mostly be full again by then


class RateLimit:
    """Counts requests per key in this process. Not safe between threads: the event loop alone asks it.

    Args:
        per_second: Requests a second in the long run.
        burst: Requests at once after a pause.
        clock: Seconds that only grow.
    """

    def __init__(self, *, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key → (left, when)

    def take(self, key: str) -> float:
        """Take one request out of the bucket of ``key``; return 0, or if it is empty the seconds to wait."""
        left = self._left(key)
        if left < 1.0:
            return (1.0 - left) / self._per_second
        self._buckets[key] = (left - 1.0, self._clock())
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        return 0.0

    def _left(self, key: str) -> float:
        left, when = self._buckets.get(key, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - when) * self._per_second)
