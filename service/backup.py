"""The embedded default in one file, and back: the database of one moment, and every artefact that it names."""

import hashlib
import io
import re
import sqlite3
import tarfile
import tempfile
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from service.artifacts import ArtifactStore
from service.errors import ConflictError, NotFoundError
from service.settings import Settings
from service.store.database import Database
from service.store.migrate import upgrade_to_head
from service.store.tables import artifact_uses

DATABASE = "tightfit.db"
FOLDER = "artifacts"
COPIES = 5  # before the service has to wait for one
_MEMBER = re.compile(rf"{FOLDER}/([0-9a-f]{{64}})")


class BackupError(ConflictError):
    """Nothing was written, or what was read is no whole backup."""

    code = "bad_backup"


def backup(settings: Settings, path: Path) -> int:
    """Write a backup while the service runs; return how many artefacts it holds.

    The database is copied as it is at one moment, and then what it names is read. Where some of that was removed
    meanwhile, a newer copy no longer names it, and only what is new in that one has to be read: so the copy that is
    kept names nothing but what was read. In the end nobody is let to remove anything for the short time of one copy.
    """
    source = _embedded(settings)
    if not source.exists():
        raise BackupError(f"there is no database at {source}")
    store = ArtifactStore(settings.artifacts_url)
    part = path.with_name(path.name + ".part")
    kept: set[str] = set()
    try:
        with tempfile.TemporaryDirectory() as folder, tarfile.open(part, "w") as archive:
            copy = Path(folder) / DATABASE
            for _ in range(COPIES):
                _copy_database(source, copy)
                if not (gone := _add(archive, store, _named(copy), kept)):
                    break
            else:
                gone = _add_under_lock(archive, store, source, copy, kept)
            if gone:
                raise BackupError(f"the artefact {sorted(gone)[0]} is named in {source} and not there")
            archive.add(copy, DATABASE)
        part.replace(path)
    except OperationalError as error:
        raise BackupError(f"{source} is too busy to be read: {error.orig}") from error
    except sqlite3.DatabaseError as error:
        raise BackupError(f"{source} cannot be read, or a service of this version has never run: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return len(kept)


def restore(settings: Settings, path: Path) -> int:
    """Fill an empty home from a backup; every artefact is hashed on the way. Returns how many there were.

    Raises:
        BackupError: The home is not empty, or the file is not a whole backup.
    """
    target = _embedded(settings)
    for path_there in (target, target.with_name(f"{target.name}-wal")):  # a log left behind would be replayed
        if path_there.exists():
            raise BackupError(f"{path_there} is there already; restore into another TIGHTFIT_HOME")
    store = ArtifactStore(settings.artifacts_url)
    found: set[str] = set()
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is None:
                    raise BackupError(f"{member.name!r} is not a plain file")
                if member.name == DATABASE:
                    with part.open("wb") as file:
                        while piece := content.read(2**20):
                            file.write(piece)
                    continue
                known = _MEMBER.fullmatch(member.name)
                data = content.read()
                if known is None or hashlib.sha256(data).hexdigest() != known[1]:
                    raise BackupError(f"{member.name!r} is damaged, or does not belong here")
                found.add(store.store_bytes(data).digest)
        named = _named(part) if part.exists() else {DATABASE}
        if missing := named - found:
            raise BackupError(f"the backup is not whole: {sorted(missing)[0]} is missing")
        for digest in found - named:  # was removed while the backup was written
            store.remove(digest)
        part.replace(target)
    except (tarfile.TarError, sqlite3.DatabaseError, EOFError) as error:
        raise BackupError(f"{path} is not a whole backup: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    database = Database(settings.database_url)
    upgrade_to_head(database)  # the backup may be of an older version
    database.close()
    return len(named)


def _embedded(settings: Settings) -> Path:
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise BackupError("this is for the embedded database; PostgreSQL has pg_dump, object stores have versioning")
    return Path(url.database)


def _copy_database(source: Path, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    reader, writer = sqlite3.connect(source), sqlite3.connect(copy)
    try:
        reader.backup(writer)
        writer.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    finally:
        reader.close()
        writer.close()


def _add(archive: tarfile.TarFile, store: ArtifactStore, named: set[str], kept: set[str]) -> set[str]:
    """Add those artefacts that are not yet ``kept``, and note them there; return what is not there any more."""
    gone = set()
    for digest in sorted(named - kept):
        try:
            content = store.read(digest)
        except (NotFoundError, FileNotFoundError):
            gone.add(digest)
            continue
        member = tarfile.TarInfo(f"{FOLDER}/{digest}")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        kept.add(digest)
    return gone


def _add_under_lock(
    archive: tarfile.TarFile, store: ArtifactStore, source: Path, copy: Path, kept: set[str]
) -> set[str]:
    """Copy once more and add what is missing while nothing is removed: that takes the lock of all who write."""
    database = Database(f"sqlite:///{source}")
    try:
        with database.write():
            _copy_database(source, copy)
            return _add(archive, store, _named(copy), kept)
    finally:
        database.close()


def _named(path: Path) -> set[str]:
    """Return what artefacts a database names."""
    connection = sqlite3.connect(path)
    try:
        return {row[0] for row in connection.execute(str(select(artifact_uses.c.digest).distinct()))}
    finally:
        connection.close()
