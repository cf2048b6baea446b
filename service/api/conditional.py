"""Answers that a client has already: an ``ETag`` on every JSON document, and 304 for who shows it again."""

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BYTES = 4 * 2**20  # longer answers are not held back to be hashed


class Conditional:
    """ASGI middleware. What a route has tagged by itself, a checkpoint say, keeps its tag."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and leave out an answer that the client has."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        known = {tag.strip().removeprefix("W/") for tag in Headers(scope=scope).get("if-none-match", "").split(",")}
        held: Message | None = None  # the start of a JSON answer, until its body has come
        silent = False

        async def tagging(message: Message) -> None:
            nonlocal held, silent
            if message["type"] == "http.response.start" and message["status"] == 200:
                headers = MutableHeaders(scope=message)
                if "etag" in headers:
                    silent = headers["etag"].removeprefix("W/") in known
                    await send(_not_modified(headers) if silent else message)
                    return
                length = int(headers.get("content-length", MAX_BYTES + 1))
                if headers.get("content-type", "").startswith("application/json") and length <= MAX_BYTES:
                    held = message
                    return
            elif message["type"] == "http.response.body" and held is not None:
                start, held = held, None
                headers = MutableHeaders(scope=start)
                headers["ETag"] = f'"{hashlib.sha256(message.get("body", b"")).hexdigest()[:32]}"'
                headers["Cache-Control"] = "private, no-cache"
                silent = headers["etag"] in known
                await send(_not_modified(headers) if silent else start)
            if silent and message["type"] == "http.response.body":
                if not message.get("more_body", False):
                    await send({"type": "http.response.body", "body": b""})
                return
            await send(message)

        await self._app(scope, receive, tagging)


def _not_modified(headers: MutableHeaders) -> Message:
    kept = [(name, value) for name, value in headers.raw if name in (b"etag", b"cache-control", b"vary")]
    return {"type": "http.response.start", "status": 304, "headers": kept}
