"""One empty database per test, at head: first SQLite, then a real PostgreSQL."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from service.store.database import Database
from service.store.migrate import upgrade_to_head
from service.store.tables import metadata
from tests.postgresql import running_postgresql


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    with running_postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_at_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "head.db"
    database = Database(f"sqlite:///{path}")
    upgrade_to_head(database)
    database.close()
    return path


@pytest.fixture(scope="session")
def postgresql_at_head(postgresql_url: str) -> str:
    """Another database on the same server, so that tests of migrations have one of their own."""
    server = Database(postgresql_url)
    with server.reader.connect() as connection:  # outside of transactions
        connection.execute(text("CREATE DATABASE head"))
    server.close()
    database = Database(server.url.set(database="head").render_as_string(hide_password=False))
    upgrade_to_head(database)
    database.close()
    return database.url.render_as_string(hide_password=False)


@pytest.fixture
def empty_postgresql_at_head(postgresql_at_head: str) -> str:
    database = Database(postgresql_at_head)
    with database.write() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)}"))
    database.close()
    return postgresql_at_head


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_at_head"), tmp_path / "test.db")
        database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    else:
        database = Database(request.getfixturevalue("empty_postgresql_at_head"))
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    else:
        database = Database(request.getfixturevalue("postgresql_url"))
        with database.write() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    yield database
    database.close()
