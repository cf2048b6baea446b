"""Calls that take seconds wait for each other, so that all others find a thread at once."""

import re

from anyio import CapacityLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

AT_ONCE = 8  # far fewer than the threads that answer requests
_SLOW = re.compile(
    r"/v1/estimates|/v1/jobs/[^/]+/(rerank|study|sensitivity)|/v1/trials/[^/]+(/why)?"
    r"|/jobs/[^/]+/(chart|parts/rerank)|/trials/[^/]+/(panel|parts/why)"
)


class SlowCalls:
    """ASGI middleware that lets only a few of the calls that compute much into the threads; others wait outside.

    A place is free again when the answer begins: a client that reads slowly keeps nobody waiting.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._places: CapacityLimiter | None = None  # made where the event loop runs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on when there is a place for it."""
        if scope["type"] != "http" or not _SLOW.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        places = self._places = self._places or CapacityLimiter(AT_ONCE)
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
