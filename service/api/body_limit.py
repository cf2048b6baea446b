"""No request body is longer than its route takes; counted as it arrives, whatever the headers say."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD_PATHS = frozenset({"/v1/models", "/v1/datasets"})
FORM_BYTES = 2**20  # what a form has besides its file


class BodyLimit:
    """ASGI middleware; raises 413 within the application, so that the answer is a problem like every other."""

    def __init__(self, app: ASGIApp, *, upload_bytes: int, other_bytes: int) -> None:
        self._app = app
        self._upload_bytes = upload_bytes + FORM_BYTES
        self._other_bytes = other_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with a counting ``receive``."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._upload_bytes if scope["path"] in UPLOAD_PATHS else self._other_bytes
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        count = int(declared) if declared.isdigit() else 0
        refuse = HTTPException(413, f"the body must be at most {limit} bytes")
        received = 0

        async def counted() -> Message:
            nonlocal received
            if count > limit:
                raise refuse
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise refuse
            return message

        await self._app(scope, counted, send)
