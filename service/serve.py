"""``tightfit serve``: API and pages in this process, ingestion and dispatcher in children that end with it."""

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from sqlalchemy.engine import make_url

from service.app import create_app
from service.artifacts import remove_leftovers
from service.errors import AppError
from service.observability import logs
from service.processes import Supervised
from service.settings import Settings, is_loopback
from service.store.database import Database
from service.store.migrate import upgrade_to_head
from service.store.tokens import Tokens

DRAIN_S = 5
KEEP_ALIVE_S = 75  # longer than proxies and clients keep idle connections, so that it is they who close them

logger = logging.getLogger(__name__)


class RefusedBindError(AppError):
    """The service would be open to strangers."""

    code = "refused_bind"


class _Server(uvicorn.Server):
    """Says where it listens, and tells event streams to end as soon as the service is asked to."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.stopping = True  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def serve(settings: Settings, *, dispatch: bool = True, on_ready: Callable[[str], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; then finish what is being answered, give jobs back and end all children.

    Args:
        settings: What the operator set.
        dispatch: Also run a dispatcher; without one, jobs wait for a dispatcher elsewhere.
        on_ready: Called with the service's URL once it listens.

    Returns:
        What the process should exit with: 1 if it could not listen.

    Raises:
        RefusedBindError: The address is not loopback, and there is no token that could be asked for.
    """
    check_bind(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    settings.temporary.mkdir(mode=0o700, exist_ok=True)
    tempfile.tempdir = str(settings.temporary)  # where forms spool their files: the system's may be memory
    database = Database(settings.database_url)
    upgrade_to_head(database)
    database.close()
    app = create_app(settings)
    remove_leftovers(settings.temporary)
    environment = {**os.environ, **settings.to_environment()}
    dispatcher = Supervised([sys.executable, "-m", "service.dispatcher"], environment)
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_level="warning",
            timeout_graceful_shutdown=DRAIN_S,
            timeout_keep_alive=KEEP_ALIVE_S,
            server_header=False,
        ),
        on_ready or (lambda url: logger.info("listening on %s", url)),
    )
    _outlive_signals()
    if dispatch:
        dispatcher.start()
    try:
        server.run()
    finally:
        if dispatch:
            dispatcher.stop()
    return 0 if server.started else 1


def _outlive_signals() -> None:
    """Keep the way out free: uvicorn raises the signal that ended it once more, before the children are ended."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)


def check_bind(settings: Settings) -> None:
    """Refuse an address that others can reach, unless there is a token that keeps them out."""
    if is_loopback(settings.host) or _has_token(settings):
        return
    raise RefusedBindError(
        f"refusing to listen on {settings.host}: whoever reaches the service may use it, because it has no tokens yet. "
        "`tightfit token create NAME` makes one"
    )


def _has_token(settings: Settings) -> bool:
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return False  # and it is not made to find that out
    database = Database(settings.database_url)
    try:
        upgrade_to_head(database)
        with database.read() as connection:
            return Tokens(connection).any_usable()
    finally:
        database.close()


if __name__ == "__main__":
    started = Settings()
    logs.start(started.log_format)
    raise SystemExit(serve(started))
