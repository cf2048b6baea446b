"""A real service without a dispatcher, once per session: uvicorn on a free port, SQLite, a real ingestion server."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from sqlalchemy import func, select

from service.app import create_app
from service.services import Services
from service.settings import Settings
from service.store.database import Database
from service.store.migrate import upgrade_to_head
from service.store.tables import metadata


@dataclass(frozen=True)
class Running:
    """A service that answers, and what lies behind it."""

    http: httpx.Client
    services: Services

    def state(self) -> tuple[dict[str, int], frozenset[str]]:
        """Return the rows per table and the names of all stored and temporary files."""
        with self.services.database.read() as connection:
            rows = {
                name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in metadata.tables.items()
                if name != "audit"  # which grows by every request
            }
        home = self.services.settings.home
        folders = [home / "artifacts", home / "tmp"]
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return rows, frozenset(str(path.relative_to(home)) for path in files)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = Settings(
        home=tmp_path_factory.mktemp("home"),
        port=free_port(),
        max_upload_bytes=2**22,
        max_unpacked_bytes=2**24,
        max_body_bytes=2**16,
    )
    database = Database(settings.database_url)
    upgrade_to_head(database)
    database.close()
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, host=settings.host, port=settings.port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    with httpx.Client(base_url=f"http://{settings.host}:{settings.port}", timeout=120) as http:
        yield Running(http, app.state.services)
    app.state.stopping = True
    server.should_exit = True
    thread.join(20)


def wait_until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.02)


@pytest.fixture
def http(running: Running) -> httpx.Client:
    return running.http


@pytest.fixture
def weights() -> Path:
    return Path(__file__).parents[3] / "examples" / "digits" / "digits_resnet.safetensors"
