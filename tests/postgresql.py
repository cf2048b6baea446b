"""A real PostgreSQL for tests."""

import os
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Postgresql:
    """A server that can be taken away and brought back."""

    server: Any

    @property
    def url(self) -> str:
        """Where it answers."""
        return str(self.server.get_uri())

    def stop(self) -> None:
        """End it at once, as its immediate shutdown does: what is committed is recovered from the log."""
        pid = self.server.get_pid()
        os.kill(pid, signal.SIGQUIT)
        while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
            time.sleep(0.05)

    def start(self) -> None:
        """Start it again, with the same data at the same place."""
        self.server.ensure_postgres_running()


@contextmanager
def stoppable_postgresql() -> Iterator[Postgresql]:
    """Give a server that ends with the block.

    Its folder is not pytest's: another run of pytest closes that one to the user as whom the server runs under root.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of XDG_RUNTIME_DIR, on import
        import pgserver

        server = pgserver.get_server(Path(tempfile.mkdtemp(prefix="tightfit-postgresql-")), cleanup_mode="delete")
    try:
        yield Postgresql(server)
    finally:
        server.cleanup()


@contextmanager
def running_postgresql() -> Iterator[str]:
    """Give the URL of a server that ends with the block."""
    with stoppable_postgresql() as server:
        yield server.url
