import io
import shutil
import tarfile
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest

from service.artifacts import ArtifactStore
from service.backup import COPIES, BackupError, backup, restore
from service.retention import discard
from service.settings import Settings
from service.store.artifact_uses import ArtifactUses
from service.store.database import Database
from service.store.jobs import Jobs
from tests.service.api.conftest import wait_until
from tests.service.store.rows import submitted


@pytest.fixture
def full(sqlite_at_head: Path, tmp_path: Path) -> Settings:
    home = tmp_path / "full"
    home.mkdir()
    shutil.copy(sqlite_at_head, home / "tightfit.db")
    settings = Settings(home=home)
    store = ArtifactStore(settings.artifacts_url)
    named, _ = store.store_bytes(b"named"), store.store_bytes(b"nobody needs this")
    database = Database(settings.database_url)
    with database.write() as connection:
        job = submitted(connection)
        ArtifactUses(connection).add("local", job.id, [named])
    database.close()
    return settings


def test_a_backup_comes_back_whole(full: Settings, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    again = Settings(home=tmp_path / "again")

    assert backup(full, file) == 1
    assert restore(again, file) == 1

    database = Database(again.database_url)
    with database.read() as connection:
        assert [job.name for job in Jobs(connection).page()] == ["small"]
        digests = [row[0] for row in connection.exec_driver_sql("SELECT digest FROM artifact_uses")]
    database.close()
    assert ArtifactStore(again.artifacts_url).read(digests[0]) == b"named"


class Deletions:
    """What a service does while users delete jobs and submit others: each new job brings an artefact of its own."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database(settings.database_url)
        self.store = ArtifactStore(settings.artifacts_url)
        self._numbers = count()
        self.done = 0

    def submit(self) -> None:
        artifact = self.store.store_bytes(b"%d" % next(self._numbers))
        with self.database.write() as connection:
            ArtifactUses(connection).add("local", submitted(connection).id, [artifact])

    def delete_oldest(self) -> None:
        with self.database.write() as connection:
            digests = Jobs(connection).remove(Jobs(connection).page(limit=1000)[-1].id)
        discard(self.database, self.store, digests)
        self.done += 1

    def run(self, stopping: Event) -> None:
        while not stopping.is_set():
            self.submit()
            self.delete_oldest()


def named(settings: Settings) -> list[str]:
    database = Database(settings.database_url)
    with database.read() as connection:
        digests = [row[0] for row in connection.exec_driver_sql("SELECT digest FROM artifact_uses")]
    database.close()
    return digests


def test_every_backup_is_whole_while_jobs_are_deleted(full: Settings, tmp_path: Path) -> None:
    users, stopping = Deletions(full), Event()
    for _ in range(150):
        users.submit()
    deleting = Thread(target=users.run, args=[stopping])
    deleting.start()
    wait_until(lambda: users.done > 0)

    homes = [Settings(home=tmp_path / f"again-{number}") for number in range(4)]
    before = users.done
    try:
        for number, _ in enumerate(homes):
            backup(full, tmp_path / f"{number}.tar")
    finally:
        stopping.set()
        deleting.join()
    users.database.close()

    assert users.done > before
    for number, home in enumerate(homes):
        assert restore(home, tmp_path / f"{number}.tar") >= 150
        store = ArtifactStore(home.artifacts_url)
        assert all(store.exists(digest) for digest in named(home))
        assert set(store.older_than(-1)) == set(named(home))  # nothing that was deleted comes back


def test_a_backup_comes_to_an_end_when_every_artefact_is_gone_before_it_is_read(
    full: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, reads, read = Deletions(full), count(1), ArtifactStore.read

    def late(store: ArtifactStore, digest: str) -> bytes:
        if next(reads) <= COPIES:  # and then the service has to wait
            users.submit()
            users.delete_oldest()
        return read(store, digest)

    monkeypatch.setattr(ArtifactStore, "read", late)

    assert backup(full, tmp_path / "backup.tar") == 1
    assert restore(Settings(home=tmp_path / "again"), tmp_path / "backup.tar") == 1

    users.database.close()
    assert users.done == COPIES


def test_an_artefact_that_is_named_and_lost_is_told(full: Settings, tmp_path: Path) -> None:
    (digest,) = named(full)
    ArtifactStore(full.artifacts_url).remove(digest)

    with pytest.raises(BackupError, match=f"{digest} is named in .* and not there"):
        backup(full, tmp_path / "backup.tar")

    assert not (tmp_path / "backup.tar").exists()


def test_nothing_is_written_over(full: Settings, tmp_path: Path) -> None:
    backup(full, tmp_path / "backup.tar")

    with pytest.raises(BackupError, match="is there already"):
        restore(full, tmp_path / "backup.tar")


def test_a_database_of_an_older_version_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "tightfit.db").touch()

    with pytest.raises(BackupError, match="no such table"):
        backup(Settings(home=tmp_path), tmp_path / "backup.tar")

    assert not list(tmp_path.glob("backup*"))


def test_nothing_is_written_beside_the_log_of_another_database(full: Settings, tmp_path: Path) -> None:
    backup(full, tmp_path / "backup.tar")
    again = Settings(home=tmp_path / "again")
    again.home.mkdir()
    (again.home / "tightfit.db-wal").write_bytes(b"pages of another database")

    with pytest.raises(BackupError, match="is there already"):
        restore(again, tmp_path / "backup.tar")


@pytest.mark.parametrize("cut", [600, 3000, -2000])
def test_half_a_backup_restores_nothing(full: Settings, tmp_path: Path, cut: int) -> None:
    file = tmp_path / "backup.tar"
    backup(full, file)
    data = file.read_bytes()
    file.write_bytes(data[:cut] if cut > 0 else data[: len(data) // 2])
    again = Settings(home=tmp_path / "again")

    with pytest.raises(BackupError):
        restore(again, file)

    assert not (again.home / "tightfit.db").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "artifacts/" + "0" * 64, "artifacts/../../x"])
def test_what_does_not_belong_is_refused(full: Settings, tmp_path: Path, name: str) -> None:
    file = tmp_path / "backup.tar"
    with tarfile.open(file, "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))

    with pytest.raises(BackupError, match="damaged, or does not belong"):
        restore(Settings(home=tmp_path / "again"), file)

    assert not (tmp_path / "outside").exists()


def test_postgresql_is_not_for_this(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="pg_dump"):
        backup(Settings(home=tmp_path, database_url="postgresql://u@h/d"), tmp_path / "x.tar")
