"""Which scope a request needs. What is not named here is protected: reading needs ``read``, all else ``submit``."""

import re

from service.access.principal import Scope

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

PUBLIC = re.compile(r"/healthz|/readyz|/login|/static/.*")
"""What strangers may ask: whether the service lives, and what the login page needs."""

ADMIN = re.compile(r"/v1/(tokens|audit)\b.*", re.DOTALL)  # a route matches a path that ends in a line break, too

_SESSIONS = re.compile(r"/(login|logout)\b.*", re.DOTALL)

COMPUTES = re.compile(r"/v1/estimates|/v1/jobs/[^/]+/rerank")
"""Requests that send a body and change nothing."""


def is_public(path: str) -> bool:
    """Whether a path needs no token."""
    return PUBLIC.fullmatch(path) is not None


def changes_access(path: str) -> bool:
    """Whether a request to this path, if it changes anything, changes who may come in."""
    return _SESSIONS.fullmatch(path) is not None or ADMIN.fullmatch(path) is not None


def scope_for(method: str, path: str) -> Scope:
    """Return the least scope that may send a request."""
    if ADMIN.fullmatch(path):
        return Scope.ADMIN
    if method in SAFE_METHODS or (method == "POST" and COMPUTES.fullmatch(path)) or path == "/logout":
        return Scope.READ
    return Scope.SUBMIT
