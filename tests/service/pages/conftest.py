import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.database import Database
from service.store.migrate import upgrade_to_head


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "head.db"
    database = Database(f"sqlite:///{path}")
    upgrade_to_head(database)
    database.close()
    return path


@pytest.fixture
def home(head: Path, tmp_path: Path) -> Path:
    """A home whose database is at head."""
    shutil.copy(head, tmp_path / "tightfit.db")
    return tmp_path


@pytest.fixture
def database(home: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{home / 'tightfit.db'}")
    yield database
    database.close()
