"""One registry per kind of plug-in: explicit registration, no silent replacement."""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from hwmodels.errors import InputError, UnknownNameError

T = TypeVar("T")


class DuplicateNameError(InputError):
    """A second plug-in wants a name that is taken."""

    code = "duplicate_name"


class Registry(Generic[T]):
    """Names mapped to plug-ins of one kind.

    Third parties add theirs by an entry point in ``group`` that names the plug-in (its name there is the name here).
    Those are loaded on the first look-up, so that importing this package runs nobody else's code.

    Args:
        kind: What a member is called in messages, ``"quantizer"``.
        group: Entry-point group to load from, ``"tightfit.quantizers"``; ``None``: only explicit registration.
    """

    def __init__(self, kind: str, *, group: str | None = None) -> None:
        self.kind = kind
        self._group = group
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that adds what it decorates under ``name``.

        Raises:
            DuplicateNameError: The name is taken.
        """

        def add(member: T) -> T:
            if name in self._members:
                raise DuplicateNameError(self.kind, "a name can be registered once", name)
            self._members[name] = member
            return member

        return add

    def get(self, name: str) -> T:
        """Return the plug-in called ``name``.

        Raises:
            UnknownNameError: There is none; the message lists the known names.
        """
        self._load_entry_points()
        if name not in self._members:
            raise UnknownNameError(self.kind, f"must be one of {', '.join(sorted(self._members)) or '(none)'}", name)
        return self._members[name]

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        self._load_entry_points()
        return tuple(sorted(self._members))

    def __contains__(self, name: object) -> bool:
        self._load_entry_points()
        return name in self._members

    def _load_entry_points(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            for point in entry_points(group=group):
                self.register(point.name)(point.load())
