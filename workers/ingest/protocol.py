"""What client and server of ingestion agree on. Imports neither torch nor ray.

A request is a folder: ``request.json`` goes in, ``reply.json`` and files come out; nothing of any size travels over a
socket. The client sends the folder's name, and with it a socket on which the server says how the request's process
ended. A process that dies half-way has simply written no reply.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwmodels.errors import InputError

REQUEST_FILE = "request.json"
REPLY_FILE = "reply.json"
MAX_MESSAGE_BYTES = 2**14
MAX_REPLY_BYTES = 2**26
DISK_FULL_STATUS = 28
"""With this a request's process exits where the disk has no room for its answer: nothing is wrong with the upload."""

KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
"""The only variables that the server inherits: no address, password or key is among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may take.

    Attributes:
        seconds: By the clock, and of processor time.
        memory_bytes: Private memory beyond what the preloaded server holds.
        file_bytes: Length of any file that is written.
    """

    seconds: float
    memory_bytes: int
    file_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What the client sends: where the request lies and what it may take."""

    folder: str
    limits: Limits

    def encode(self) -> bytes:
        """Return the message as bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Message":
        """Rebuild a message."""
        fields = json.loads(data)
        return cls(folder=fields["folder"], limits=Limits(**fields["limits"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the process of a request ended: its wait status, and whether the server ended it at its deadline."""

    status: int
    timed_out: bool = False

    def encode(self) -> bytes:
        """Return the ending as bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Ending":
        """Rebuild an ending."""
        return cls(**json.loads(data))


class IngestError(InputError):
    """What was sent cannot be taken in; carries the code that the request's process gave."""

    def __init__(self, field: str, rule: str, value: object = None, *, code: str = InputError.code) -> None:
        super().__init__(field, rule, value)
        self.code = code

    def __reduce__(self) -> Any:
        """Rebuild from the parts."""
        return _rebuilt, (self.field, self.rule, self.value, self.code)


class IngestUnavailableError(RuntimeError):
    """The server of ingestion does not answer or has no free place; the same request may succeed later."""


def _rebuilt(field: str, rule: str, value: object, code: str) -> IngestError:
    return IngestError(field, rule, value, code=code)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(data, allow_nan=False))


def read_reply(folder: Path) -> dict[str, Any] | None:
    """Return the reply that a request's process has written, ``None`` if there is no whole one."""
    try:
        descriptor = os.open(folder / REPLY_FILE, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_REPLY_BYTES + 1)
    if len(data) > MAX_REPLY_BYTES:
        return None
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return reply if isinstance(reply, dict) else None
