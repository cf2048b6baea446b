"""Secrets that the service hands out. It keeps their hashes alone: whoever reads the database can use none of them."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from service.store.identifiers import new_id

PREFIX = "tft"
_SECRET = re.compile(r"([0-9a-f]{32})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret as its holder shows it: an identifier to look it up by, and 256 random bits."""

    id: str
    random: str

    @classmethod
    def new(cls) -> "Secret":
        """Make a secret that nobody can guess."""
        return cls(new_id(), secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "Secret | None":
        """Read a secret; ``None`` if the text is none."""
        found = _SECRET.fullmatch(text.removeprefix(f"{PREFIX}_"))
        return None if found is None else cls(found[1], found[2])

    def __str__(self) -> str:
        return f"{PREFIX}_{self.id}_{self.random}"

    def __repr__(self) -> str:
        return f"Secret({self.id!r})"  # a log must not show the rest

    @property
    def digest(self) -> str:
        """The sha256 under which the secret is kept; of 256 random bits, so that no slow hash is needed."""
        return hashlib.sha256(f"{self.id}_{self.random}".encode()).hexdigest()

    def matches(self, digest: str) -> bool:
        """Whether this is the secret with that digest; takes the same time whether it is or not."""
        return hmac.compare_digest(self.digest.encode(), digest.encode())
