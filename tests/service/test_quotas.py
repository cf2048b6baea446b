import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from service.artifacts import Artifact, ArtifactStore
from service.errors import ConflictError, TooManyError
from service.quotas import check_devices, check_jobs, check_storage
from service.retention import discard, remove_ray_sessions, sweep
from service.settings import Settings
from service.store.artifact_uses import ArtifactUses
from service.store.database import Database
from service.store.identifiers import new_id
from service.store.jobs import Jobs
from service.store.records import DeviceRecord
from service.store.rows import moment
from service.store.tables import jobs, models
from service.store.uploads import Datasets, Devices, Models
from tests.service.store.rows import DATASET, MODEL, job, submitted

DAY = timedelta(days=1)


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore((tmp_path / "artifacts").as_uri())


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    return lambda **values: Settings(home=tmp_path, **values)


def test_who_has_enough_jobs_waits_and_others_do_not(database: Database, settings: Callable[..., Settings]) -> None:
    limits = settings(owner_jobs=2)
    with database.write() as connection:
        first = submitted(connection)
        check_jobs(connection, limits, "local")
        submitted(connection, job())
        with pytest.raises(TooManyError) as error:
            check_jobs(connection, limits, "local")
        check_jobs(connection, limits, "ann")
        Jobs(connection).cancel(first.id)
        check_jobs(connection, limits, "local")

    assert error.value.retry_after_s > 0


def test_ended_jobs_and_devices_have_their_bounds_too(database: Database, settings: Callable[..., Settings]) -> None:
    limits = settings(owner_kept_jobs=2, owner_devices=1)
    with database.write() as connection:
        Jobs(connection).cancel(submitted(connection).id)
        check_jobs(connection, limits, "local")
        Jobs(connection).cancel(submitted(connection, job()).id)
        with pytest.raises(ConflictError, match="may keep 2 jobs"):
            check_jobs(connection, limits, "local")
        for number in range(2):
            check_devices(connection, limits, "ann")
            Devices(connection, "ann").add(
                DeviceRecord(id=new_id(), owner="ann", name=f"board {number}", profile={}, created_at=moment())
            )
        with pytest.raises(ConflictError, match="may add 1 devices"):
            check_devices(connection, limits, "ann")
        check_devices(connection, limits, "local")


def test_submissions_at_once_do_not_exceed_the_bound(database: Database, settings: Callable[..., Settings]) -> None:
    limits = settings(owner_jobs=3)
    with database.write() as connection:
        submitted(connection)  # with the model and the data that the others name, too

    def submit(number: int) -> bool:
        try:
            with database.write() as connection:
                Jobs(connection).lock_submissions()
                Jobs(connection).submit(job())
                check_jobs(connection, limits, "local", besides=1)
        except TooManyError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(submit, range(16)))

    with database.read() as connection:
        assert Jobs(connection).counts() == (3, 3)
    assert taken.count(True) == 2


def test_what_is_stored_counts_against_its_owner_until_it_goes(
    database: Database, settings: Callable[..., Settings]
) -> None:
    limits = settings(owner_bytes=100)
    with database.write() as connection:
        ArtifactUses(connection).add("ann", "h" * 32, [Artifact(digest="a" * 64, bytes=60)])
        check_storage(connection, limits, "ann", more=40)
        with pytest.raises(ConflictError, match="60 are taken"):
            check_storage(connection, limits, "ann", more=41)
        check_storage(connection, limits, "bob", more=100)
        ArtifactUses(connection).release("h" * 32)
        check_storage(connection, limits, "ann", more=100)


def test_an_artefact_goes_with_the_last_that_names_it(database: Database, artifacts: ArtifactStore) -> None:
    shared, alone = artifacts.store_bytes(b"shared"), artifacts.store_bytes(b"alone")
    with database.write() as connection:
        ArtifactUses(connection).add("ann", "1" * 32, [shared, alone])
        ArtifactUses(connection).add("bob", "2" * 32, [shared])
        named = ArtifactUses(connection).release("1" * 32)

    discard(database, artifacts, named)

    assert (artifacts.exists(shared.digest), artifacts.exists(alone.digest)) == (True, False)


def test_a_model_stays_as_long_as_a_job_uses_it(database: Database) -> None:
    with database.write() as connection:
        record = submitted(connection)
        with pytest.raises(ConflictError, match="delete its jobs"):
            Models(connection).remove(MODEL.id)
        Jobs(connection).cancel(record.id)
        Jobs(connection).remove(record.id)

        Models(connection).remove(MODEL.id)
        Datasets(connection).remove(DATASET.id)

        assert Models(connection).get(MODEL.id) is None
        assert Datasets(connection).get(DATASET.id) is None


def test_what_ended_long_ago_goes_with_its_files_and_what_runs_stays(
    database: Database, artifacts: ArtifactStore, settings: Callable[..., Settings]
) -> None:
    packed = artifacts.store_bytes(b"packed")
    with database.write() as connection:
        old, young, waiting = (submitted(connection, job()) for _ in range(3))
        other = replace(MODEL, id="e" * 32, digest="e" * 64)
        Models(connection).add(other)
        ArtifactUses(connection).add("local", old.id, [packed])
        for record, days in ((old, 31), (young, 29)):
            Jobs(connection).cancel(record.id)
            ended_at = moment() - days * DAY
            connection.execute(update(jobs).where(jobs.c.id == record.id).values(ended_at=ended_at))
        connection.execute(update(models).values(created_at=moment() - 31 * DAY))

    sweep(settings(retention_days=30), database, artifacts)

    with database.read() as connection:
        left = {record.id for record in Jobs(connection).page()}
        assert left == {young.id, waiting.id}
        assert Models(connection).get(MODEL.id) is not None  # two jobs use it
        assert Models(connection).get(other.id) is None
    assert not artifacts.exists(packed.digest)


def test_without_a_policy_everything_is_kept(
    database: Database, artifacts: ArtifactStore, settings: Callable[..., Settings]
) -> None:
    with database.write() as connection:
        record = submitted(connection)
        Jobs(connection).cancel(record.id)
        connection.execute(update(jobs).values(ended_at=moment() - 9999 * DAY))

    sweep(settings(), database, artifacts)

    with database.read() as connection:
        assert Jobs(connection).get(record.id) is not None


def test_ray_sessions_go_when_their_process_has_gone(tmp_path: Path) -> None:
    gone = tmp_path / "session_2026-01-01_00-00-00_000000_999999999"
    alive = tmp_path / "session_2026-01-01_00-00-00_000000_1"
    other = tmp_path / "session_notes"
    for folder in (gone, alive, other):
        folder.mkdir()
    (tmp_path / "session_latest").symlink_to(gone)

    assert remove_ray_sessions(tmp_path) == []  # younger than a day
    assert remove_ray_sessions(tmp_path, older_than_s=-1) == [gone]

    assert {path.name for path in tmp_path.iterdir()} == {alive.name, other.name, "session_latest"}


def test_a_ray_session_stays_while_a_process_that_was_started_with_it_lives(tmp_path: Path) -> None:
    folder = tmp_path / "session_2026-01-01_00-00-00_000001_999999999"
    folder.mkdir()
    command = [sys.executable, "-c", "print(flush=True); input()", f"--session-name={folder.name}"]
    raylet = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert raylet.stdout is not None
    raylet.stdout.readline()  # only now does /proc surely show its arguments
    try:
        assert remove_ray_sessions(tmp_path, older_than_s=-1) == []
    finally:
        raylet.communicate(b"\n")
    assert remove_ray_sessions(tmp_path, older_than_s=-1) == [folder]


def test_a_ray_session_stays_while_somebody_answers_at_its_sockets() -> None:
    with tempfile.TemporaryDirectory(prefix="tf-", dir="/tmp") as name:  # paths of sockets must be short
        folder = Path(name) / "session_2026-01-01_00-00-00_000002_999999999"
        (folder / "sockets").mkdir(parents=True)
        raylet = socket.socket(socket.AF_UNIX)  # of a container that shares the folder and not the processes
        raylet.bind(str(folder / "sockets" / "raylet"))
        raylet.listen()

        assert remove_ray_sessions(Path(name), older_than_s=-1) == []
        raylet.close()

        assert remove_ray_sessions(Path(name), older_than_s=-1) == [folder]  # the file of the socket was still there
