"""Nothing is answered to strangers once the service has a token: every path is guarded unless it is named as public.

Bearer tokens are for programs; browsers swap one for a session cookie at ``/login``. A request that changes something
by cookie must come from a page of this service, which browsers say in ``Origin`` and no foreign page can forge.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from math import ceil
from urllib.parse import quote

import anyio
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import rules
from service.access.principal import LOCAL, Principal
from service.access.rate_limit import RateLimit
from service.access.remembered import Remembered
from service.access.secrets import Secret
from service.api.dependencies import PRINCIPAL
from service.api.errors import problem
from service.settings import Settings, is_loopback
from service.store.audit import Audit
from service.store.database import Database
from service.store.identifiers import new_id
from service.store.records import AuditRecord
from service.store.rows import moment
from service.store.tables import LOCAL_OWNER
from service.store.tokens import Sessions, Tokens

COOKIE = "tightfit_session"
LOGIN = "/login"
GUESSES_PER_S, GUESSES_AT_ONCE = 0.5, 10.0  # wrong secrets from one address
REMEMBERED_S = 1.0
"""For so long a process believes what it has looked up: a token that another process revokes is of use until then."""
MOST_REMEMBERED = 10_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Visit:
    """Who asks, the answer if they may not, and whether the audit log gets a line."""

    principal: Principal | None = None
    refusal: Response | None = None
    logged: bool = False


class Guard:
    """ASGI middleware: who asks, whether they may, how often, and a line in the audit log."""

    def __init__(self, app: ASGIApp, *, database: Database, settings: Settings) -> None:
        self._app = app
        self._database = database
        # Once it is known that there is a token, that does not change: none is ever deleted.
        self._closed = not is_loopback(settings.host)
        self._principals: Remembered[Principal] = Remembered(seconds=REMEMBERED_S, most=MOST_REMEMBERED)
        burst = max(1.0, 5 * settings.requests_per_second)  # less than one would let nobody in
        self._requests = RateLimit(per_second=settings.requests_per_second, burst=burst)
        self._guesses = RateLimit(per_second=GUESSES_PER_S, burst=GUESSES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what must not be done; pass everything else on."""
        if scope["type"] != "http" or (rules.is_public(scope["path"]) and scope["path"] != LOGIN):
            await self._app(scope, receive, send)
            return
        try:
            visit = await self._admit(scope)
        except (OperationalError, NoConnectionError) as error:
            logger.warning("the database does not answer: %s", str(error).splitlines()[0])
            detail = "the database does not answer; try again"
            visit = _Visit(refusal=problem(HTTPStatus.SERVICE_UNAVAILABLE, "database_unavailable", detail))
        if visit.principal is not None:
            scope[PRINCIPAL] = visit.principal
        await (visit.refusal or self._app)(scope, receive, self._logging(scope, visit, send) if visit.logged else send)

    async def _admit(self, scope: Scope) -> "_Visit":
        """Return who asks, and the answer if they may not."""
        changes = scope["method"] not in rules.SAFE_METHODS
        if not self._closed and (anybody := await self._anybody()):
            return _Visit(principal=anybody, logged=changes)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if scope["path"] == LOGIN and changes:  # its form holds the secret
            return self._guess(scope, None)
        shown, by_cookie = _secret(headers)
        principal = None if shown is None else await self._holder(shown, by_cookie)
        if principal is None:
            if scope["path"] == LOGIN:
                return _Visit()
            stranger = _unauthenticated(scope, headers)
            return _Visit(refusal=stranger) if by_cookie or shown is None else self._guess(scope, stranger)
        if wait_s := self._requests.take(principal.token_id or principal.owner):
            return _Visit(principal=principal, refusal=_too_many(wait_s))
        refusal = _refused(scope, headers, principal)
        return _Visit(principal=principal, refusal=refusal, logged=changes or refusal is not None)

    def _guess(self, scope: Scope, refusal: Response | None) -> "_Visit":
        """Let an address try a secret now and then; every try is logged, and too many are not even that."""
        wait_s = self._guesses.take(_address(scope))
        return _Visit(refusal=_too_many(wait_s)) if wait_s else _Visit(refusal=refusal, logged=True)

    async def _anybody(self) -> Principal | None:
        """Return who everybody is as long as there is no token."""
        principal = await self._principals.get(LOCAL_OWNER, partial(anyio.to_thread.run_sync, self._look_for_tokens))
        self._closed = self._closed or principal is None
        return None if self._closed else principal

    async def _holder(self, secret: Secret, by_cookie: bool) -> Principal | None:
        look_up = partial(anyio.to_thread.run_sync, self._look_up, secret, by_cookie)
        return await self._principals.get((secret.digest, by_cookie), look_up)

    def _look_for_tokens(self) -> Principal | None:
        with self._database.read() as connection:
            return None if Tokens(connection).any() else LOCAL

    def _look_up(self, secret: Secret, by_cookie: bool) -> Principal | None:
        with self._database.read() as connection:
            return Sessions(connection).holder(secret) if by_cookie else Tokens(connection).holder(secret)

    def _logging(self, scope: Scope, visit: "_Visit", send: Send) -> Send:
        async def logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                if rules.changes_access(scope["path"]):
                    self._principals.forget()  # before anybody hears that it was done
                entry = AuditRecord(
                    id=new_id(),
                    at=moment(),
                    owner=None if visit.principal is None else visit.principal.owner,
                    token_id=None if visit.principal is None else visit.principal.token_id,
                    address=_address(scope)[:64],
                    method=scope["method"][:16],
                    path=scope["path"].replace("\0", "")[:200],
                    status=message["status"],
                )
                await anyio.to_thread.run_sync(self._write, entry)
            await send(message)

        return logged

    def _write(self, entry: AuditRecord) -> None:
        try:
            with self._database.write() as connection:
                Audit(connection).add(entry)
        except Exception:  # what was done is done; its line stands in the process's log
            logger.exception("cannot write to the audit log: %s", entry)


def _secret(headers: Mapping[bytes, str]) -> tuple[Secret | None, bool]:
    """Return what a request shows, and whether a browser sent it by itself."""
    kind, _, text = headers.get(b"authorization", "").partition(" ")
    if kind:
        parsed = Secret.parse(text.strip()) if kind.lower() == "bearer" else None
        return parsed or Secret("", ""), False  # what is no secret is a wrong one
    try:
        morsel = SimpleCookie(headers.get(b"cookie", "")).get(COOKIE)
    except CookieError:
        return None, False
    return (None, False) if morsel is None else (Secret.parse(morsel.value), True)


def _refused(scope: Scope, headers: Mapping[bytes, str], principal: Principal) -> Response | None:
    needed = rules.scope_for(scope["method"], scope["path"])
    if not principal.scope.contains(needed):
        detail = f"this needs a token with the scope {needed!r}; this one has {principal.scope!r}"
        return problem(HTTPStatus.FORBIDDEN, "insufficient_scope", detail)
    by_cookie = principal.session_id is not None
    if by_cookie and scope["method"] not in rules.SAFE_METHODS and b"origin" not in headers:
        # a foreign origin was refused before (service.api.same_origin); none at all is no browser's
        return problem(HTTPStatus.FORBIDDEN, "no_origin", "a request by session cookie must say which page sends it")
    return None


def _unauthenticated(scope: Scope, headers: Mapping[bytes, str]) -> Response:
    if scope["method"] == "GET" and "text/html" in headers.get(b"accept", ""):
        query = scope["query_string"].decode("latin-1")
        target = scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(f"/login?next={quote(target, safe='')}", HTTPStatus.SEE_OTHER)
    answer = problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        "a token is needed, in a header `Authorization: Bearer …`; unknown, expired and revoked ones count as none",
    )
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _too_many(wait_s: float) -> Response:
    answer = problem(HTTPStatus.TOO_MANY_REQUESTS, "too_many_requests", "slow down; Retry-After says for how long")
    answer.headers["Retry-After"] = str(ceil(wait_s))
    return answer


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("unknown",))[0])
