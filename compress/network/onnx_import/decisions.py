"""Choices that one pass over a file cannot settle, tried one after the other.

A reshape of ``(197, 1, 12, 64)`` to ``(197, 768)`` says nothing about where a batch in the place of the 1 goes: with
the 197 or with the 768. Only what follows shows it, because the wrong choice sooner or later mixes images. Equal
situations are decided alike, so the layers of a transformer need a handful of attempts, not one per layer.
"""

from collections.abc import Hashable

MAX_ATTEMPTS = 64


class Decisions:
    """A depth-first walk through the choices: the latest one that has an alternative is changed first."""

    def __init__(self) -> None:
        self._order: list[Hashable] = []
        self._chosen: dict[Hashable, int] = {}
        self._options: dict[Hashable, int] = {}
        self._attempts = 1

    @property
    def any(self) -> bool:
        """Whether anything had to be decided."""
        return bool(self._order)

    def pick(self, situation: Hashable, options: int) -> int:
        """Return which of the ``options`` to take in ``situation``."""
        if situation not in self._chosen:
            self._order.append(situation)
            self._chosen[situation], self._options[situation] = 0, options
        return self._chosen[situation]

    def change(self) -> bool:
        """Prepare another attempt; ``False`` if all have been made, or enough."""
        self._attempts += 1
        while self._order and self._attempts <= MAX_ATTEMPTS:
            latest = self._order[-1]
            if self._chosen[latest] + 1 < self._options[latest]:
                self._chosen[latest] += 1
                return True
            self._order.pop()
            del self._chosen[latest], self._options[latest]
        return False
