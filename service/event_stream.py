"""Reading server-sent events, as the WHATWG HTML standard (section 9.2.6) defines the stream."""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent:
    """One event of a stream. ``id`` is what resumes the stream after it; empty if the server gave none yet."""

    id: str
    event: str
    data: str


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    r"""Yield the lines of a byte stream; a line ends with ``\n``, ``\r`` or ``\r\n`` and with nothing else.

    ``str.splitlines`` would also cut at U+2028, which may stand inside JSON. What follows the last line end is not
    a line and is dropped, as the standard asks.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    for chunk in chunks:
        rest += decoder.decode(chunk)
        held = "\r" if rest.endswith("\r") else ""  # its "\n" may be in the next chunk
        whole = rest[: len(rest) - len(held)].replace("\r\n", "\n").replace("\r", "\n")
        *complete, rest = whole.split("\n")
        yield from complete
        rest += held
    if rest.endswith("\r"):
        yield rest[:-1]


def events(chunks: Iterable[bytes], *, last_event_id: str = "") -> Iterator[ServerEvent]:
    """Yield the events of a stream; one that the stream's end cut off is dropped."""
    name = ""
    data: list[str] = []
    for line in lines(chunks):
        if not line:
            if data:
                yield ServerEvent(id=last_event_id, event=name or "message", data="\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            last_event_id = value
