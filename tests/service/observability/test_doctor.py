import shutil
from pathlib import Path

import pytest

from service.observability.doctor import examine
from service.settings import Settings
from service.store.database import Database
from service.store.dispatchers import say


def ill(settings: Settings) -> dict[str, str]:
    return {finding.name: finding.text for finding in examine(settings) if not finding.well}


@pytest.fixture
def home(sqlite_at_head: Path, tmp_path: Path) -> Path:
    shutil.copy(sqlite_at_head, tmp_path / "tightfit.db")
    return tmp_path


def test_a_service_that_runs_is_well(home: Path) -> None:
    settings = Settings(home=home)
    database = Database(settings.database_url)
    with database.write() as connection:
        say(connection, "one", evaluators=2, running=0, ray="ok")
    database.close()

    assert set(ill(settings)) <= {"memory", "shared memory"}  # of the machine that runs the test


def test_what_is_wrong_is_named_with_what_to_do(tmp_path: Path) -> None:
    found = ill(Settings(home=tmp_path, host="0.0.0.0"))

    assert "tightfit serve" in found["database"]
    assert {"dispatcher and Ray", "access"} <= set(found)
