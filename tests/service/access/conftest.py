"""A service with tokens of every kind, asked in this process; its ingestion is not started."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import anyio
import httpx
import pytest
from fastapi import FastAPI

from service.access.principal import Scope
from service.app import create_app
from service.settings import Settings
from service.store.database import Database
from service.store.identifiers import new_id
from service.store.rows import moment
from service.store.tables import LOCAL_OWNER
from service.store.tokens import Tokens

URL = "http://127.0.0.1:8321"


@dataclass(frozen=True)
class Closed:
    """A service that asks for tokens, and one token of each kind."""

    app: FastAPI
    database: Database
    tokens: dict[str, str]

    def ask(self, method: str, path: str, token: str = "", **options: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})  # type: ignore[call-overload]

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
                return await client.request(method, path, headers=headers, **options)  # type: ignore[arg-type]

        return anyio.run(send)


def add_token(database: Database, owner: str, scope: Scope, *, days: float | None = None, revoked: bool = False) -> str:
    expires_at = None if days is None else moment() + timedelta(days=days)
    with database.write() as connection:
        token, secret = Tokens(connection).create(name="test", owner=owner, scope=scope, expires_at=expires_at)
        if revoked:
            Tokens(connection).revoke(token.id)
    return str(secret)


@pytest.fixture
def home(sqlite_at_head: Path, tmp_path: Path) -> Path:
    shutil.copy(sqlite_at_head, tmp_path / "tightfit.db")
    return tmp_path


@pytest.fixture
def opened(home: Path) -> Iterator[Closed]:
    """The same without a token."""
    app = create_app(Settings(home=home, requests_per_second=1000))
    yield Closed(app, app.state.services.database, {})
    app.state.services.close()


@pytest.fixture
def closed(opened: Closed) -> Closed:
    database = opened.database
    kinds = {
        "no token": "",
        "unknown": f"tft_{new_id()}_{'x' * 43}",
        "revoked": add_token(database, LOCAL_OWNER, Scope.ADMIN, revoked=True),
        "expired": add_token(database, LOCAL_OWNER, Scope.ADMIN, days=-1),
        "wrong owner": add_token(database, "somebody else", Scope.ADMIN),
        "read": add_token(database, LOCAL_OWNER, Scope.READ),
        "submit": add_token(database, LOCAL_OWNER, Scope.SUBMIT),
        "admin": add_token(database, LOCAL_OWNER, Scope.ADMIN, days=1),
    }
    return Closed(opened.app, database, kinds)
