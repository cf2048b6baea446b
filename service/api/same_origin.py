"""Only pages of this service may send it anything, and only under a name that is its own.

A service on loopback has no login, but every web page that its user opens can reach it: by a form, or by a name that
is made to point to 127.0.0.1. Browsers say where a request comes from and under which name; that is checked here.
"""

from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.rules import SAFE_METHODS
from service.api.errors import problem
from service.settings import is_loopback

PROBES = frozenset({"/healthz", "/readyz"})
"""Asked by machines that know the service's address alone; they tell nothing."""


class SameOrigin:
    """ASGI middleware; answers 403 itself where a request comes from elsewhere."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: Collection[str]) -> None:
        self._app = app
        self._allowed_hosts = frozenset(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        reason = None
        if not self._is_own(host) and scope["path"] not in PROBES:
            reason = f"this service is not called {host!r}; TIGHTFIT_ALLOWED_HOSTS names what it is called"
        elif origin and scope["method"] not in SAFE_METHODS and _netloc(origin) != host:
            reason = f"a page of {origin!r} may not send anything to {host!r}"
        answer = self._app if reason is None else problem(HTTPStatus.FORBIDDEN, "foreign_origin", reason)
        await answer(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._allowed_hosts or is_loopback(name)
        except ValueError:  # not even a name
            return False


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
