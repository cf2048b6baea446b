"""Somebody who asks, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum

from service.store.tables import LOCAL_OWNER


class Scope(StrEnum):
    """What a token allows; each scope contains those before it."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def contains(self, other: "Scope") -> bool:
        """Whether what asks for ``other`` is allowed under this scope."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks: the owner of what they see, their scope, and by which token and whether through a browser's session."""

    owner: str
    scope: Scope
    token_id: str | None = None
    session_id: str | None = None


LOCAL = Principal(owner=LOCAL_OWNER, scope=Scope.ADMIN)
"""Everybody, as long as no token was ever made; such a service listens on loopback alone."""
