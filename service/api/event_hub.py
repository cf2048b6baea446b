"""One reader of events for all streams of a process: it looks once for everybody, and streams wait without a thread."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from service.store.database import Database
from service.store.events import Events, Standing, standings
from service.store.records import EventRecord

LOOK_S = 0.25
KEPT = 500  # newest events per job, for streams that are almost up to date
PAGE = 500

logger = logging.getLogger(__name__)


def frame(event: EventRecord) -> str:
    """Return an event as it goes over the wire."""
    data = json.dumps({**event.data, "at": event.created_at.isoformat()}, separators=(",", ":"))
    return f"id: {event.sequence}\nevent: {event.kind}\ndata: {data}\n\n"


@dataclass
class Channel:
    """The newest events of one job, as frames, for all streams that follow it."""

    job_id: str
    last: int
    ended: bool = False
    gone: bool = False
    streams: int = 0
    frames: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=KEPT))
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def after(self, sequence: int) -> list[tuple[int, str]] | None:
        """Return what came after an event; ``None`` if that has to be read from the database."""
        if sequence >= self.last:
            return []
        if not self.frames or self.frames[0][0] > sequence + 1:
            return None
        return [row for row in self.frames if row[0] > sequence]

    async def wait(self, seconds: float) -> None:
        """Wait until something has changed, but not longer than that."""
        with anyio.move_on_after(seconds):
            await self.changed.wait()


class EventHub:
    """Follows the jobs that somebody watches. Lives in the event loop; only its look at the database has a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channels: dict[str, Channel] = {}
        self._reader: asyncio.Task[None] | None = None

    @contextmanager
    def follow(self, job_id: str, *, last: int) -> Iterator[Channel]:
        """Give the channel of a job whose newest event is ``last``, and keep it up to date for the block."""
        channel = self._channels.setdefault(job_id, Channel(job_id, last))
        channel.streams += 1
        if self._reader is None or self._reader.done():
            self._reader = asyncio.get_running_loop().create_task(self._read())
        try:
            yield channel
        finally:
            channel.streams -= 1
            if not channel.streams:
                self._channels.pop(job_id, None)

    async def _read(self) -> None:
        while self._channels:
            try:
                known = {channel.job_id: channel.last for channel in self._channels.values() if not channel.gone}
                found, events = await anyio.to_thread.run_sync(self._look, known)
                self._tell(known, found, events)
            except (OperationalError, NoConnectionError) as error:
                logger.warning("the database does not answer: %s", str(error).splitlines()[0])
            except Exception:  # the reader serves everybody: it must go on
                logger.exception("cannot read events")
            await asyncio.sleep(LOOK_S)

    def _look(self, known: dict[str, int]) -> tuple[dict[str, Standing], dict[str, Sequence[EventRecord]]]:
        with self._database.read() as connection:
            found = standings(connection, list(known))  # before the events: an end that is seen has its events
            behind = [job_id for job_id, standing in found.items() if standing.last_event > known[job_id]]
            return found, {job_id: Events(connection).after(job_id, known[job_id], limit=PAGE) for job_id in behind}

    def _tell(
        self, known: Collection[str], found: dict[str, Standing], events: dict[str, Sequence[EventRecord]]
    ) -> None:
        for channel in list(self._channels.values()):
            if channel.job_id not in known:  # followed since the look began, or gone for good
                continue
            standing = found.get(channel.job_id)
            fresh = [event for event in events.get(channel.job_id, ()) if event.sequence > channel.last]
            for event in fresh:
                channel.frames.append((event.sequence, frame(event)))
                channel.last = event.sequence
            gone = standing is None
            ended = standing is not None and standing.ended and channel.last >= standing.last_event
            if fresh or gone != channel.gone or ended != channel.ended:
                channel.gone, channel.ended = gone, ended
                channel.changed.set()
                channel.changed = asyncio.Event()
