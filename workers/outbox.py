"""Events that are numbered, and kept until somebody says that they are safe."""

from collections import deque
from collections.abc import Sequence

from workers.events import Event


class Outbox:
    """Numbers events from 1 in the order in which they come."""

    def __init__(self) -> None:
        self._pending: deque[tuple[int, Event]] = deque()
        self._last = 0

    @property
    def pending(self) -> Sequence[tuple[int, Event]]:
        """Events that are not acknowledged, oldest first."""
        return tuple(self._pending)

    def emit(self, event: Event) -> None:
        """Add an event."""
        self._last += 1
        self._pending.append((self._last, event))

    def acknowledge(self, number: int) -> None:
        """Forget the events up to ``number``."""
        while self._pending and self._pending[0][0] <= number:
            self._pending.popleft()
