"""What was looked up a moment ago and need not be looked up again."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """Believes for a while what it has looked up. Not safe between threads: the event loop alone asks it.

    What was not found is not remembered: it may be there a moment later, and anybody can ask for much that is not.

    Args:
        seconds: How long a value is believed, from before it was looked up.
        most: Values that are kept; the oldest goes.
        clock: Seconds that only grow.
    """

    def __init__(self, *, seconds: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._values: OrderedDict[Hashable, tuple[Value, float]] = OrderedDict()  # until when it is believed
        self._times_forgotten = 0

    async def get(self, key: Hashable, look_up: Callable[[], Awaitable[Value | None]]) -> Value | None:
        """Return the value of a key as it was at most ``seconds`` ago."""
        known = self._values.get(key)
        since, times_forgotten = self._clock(), self._times_forgotten
        if known is not None and since < known[1]:
            return known[0]
        value = await look_up()
        if value is not None and times_forgotten == self._times_forgotten:  # else it may be from before that
            self._values[key] = (value, since + self._seconds)
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)
        return value

    def forget(self) -> None:
        """Look everything up again, what is being looked up included."""
        self._values.clear()
        self._times_forgotten += 1
