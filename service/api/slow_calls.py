"""Calls that take long, or many threads at once, wait for each other, so that all others find a thread at once."""

import re
from http import HTTPStatus

from anyio import CapacityLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import problem

COMPUTING = 8  # calls that compute for seconds, at once: far fewer than the threads that answer requests
SUBMITTING = 4  # submissions at once: each is a dozen statements, and more threads would only wait for each other
WAITING = 100  # calls of a kind that wait for a place; more are told to come back
RETRY_AFTER_S = 5
_KINDS = (
    (
        re.compile(
            r"\w+ (/v1/estimates|/v1/jobs/[^/]+/(rerank|study|sensitivity)|/v1/trials/[^/]+(/why)?"
            r"|/jobs/[^/]+/(chart|parts/rerank)|/trials/[^/]+/(panel|parts/why))"
        ),
        COMPUTING,
    ),
    (re.compile(r"POST /v1/jobs"), SUBMITTING),
)


class SlowCalls:
    """ASGI middleware that lets only a few calls of a kind into the threads; others wait outside.

    A place is free again when the answer begins: a client that reads slowly keeps nobody waiting.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._places: dict[re.Pattern[str], CapacityLimiter] = {}  # made where the event loop runs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on when there is a place for it."""
        places = self._places_for(f"{scope['method']} {scope['path']}") if scope["type"] == "http" else None
        if places is None:
            await self._app(scope, receive, send)
            return
        if places.statistics().tasks_waiting >= WAITING:
            answer = problem(HTTPStatus.TOO_MANY_REQUESTS, "busy", f"{WAITING} such calls wait already; try again")
            answer.headers["Retry-After"] = str(RETRY_AFTER_S)
            await answer(scope, receive, send)
            return
        taken = object()
        await places.acquire_on_behalf_of(taken)
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                places.release_on_behalf_of(taken)

        async def leaving(message: Message) -> None:
            leave()
            await send(message)

        try:
            await self._app(scope, receive, leaving)
        finally:
            leave()

    def _places_for(self, call: str) -> CapacityLimiter | None:
        for kind, at_once in _KINDS:
            if kind.fullmatch(call):
                return self._places.setdefault(kind, CapacityLimiter(at_once))
        return None
