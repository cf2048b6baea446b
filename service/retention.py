"""What is kept how long: artefacts that nothing names, jobs and uploads of long ago, sessions of Ray, the audit log."""

import logging
import os
import re
import shutil
import socket
import time
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

from service.artifacts import ArtifactStore
from service.settings import Settings
from service.store.artifact_uses import ArtifactUses
from service.store.audit import Audit
from service.store.database import Database
from service.store.jobs import Jobs, ended_before
from service.store.rows import moment
from service.store.uploads import Datasets, Models, idle_before

UNNAMED_S = 24 * 3600.0  # an artefact is stored before the row that names it, at most hours before
RAY_S = 24 * 3600.0
_RAY_SESSION = re.compile(r"session_.*_([0-9]+)")
_PER_SWEEP = 1000

logger = logging.getLogger(__name__)


def discard(database: Database, artifacts: ArtifactStore, digests: Collection[str]) -> None:
    """Remove those of these artefacts that nothing names, some at a time: others wait for the lock meanwhile."""
    every = sorted(set(digests))
    for start in range(0, len(every), _PER_SWEEP):
        with database.write() as connection:
            uses = ArtifactUses(connection)
            uses.lock()
            for digest in uses.unused(every[start : start + _PER_SWEEP]):
                artifacts.remove(digest)


def sweep(settings: Settings, database: Database, artifacts: ArtifactStore) -> None:
    """Remove what has been kept long enough."""
    if settings.audit_days:
        with database.write() as connection:
            Audit(connection).remove_before(moment() - timedelta(days=settings.audit_days))
    if settings.retention_days:
        _remove_old(settings, database, artifacts)
    artifacts.clear_temporary()
    discard(database, artifacts, artifacts.older_than(UNNAMED_S))


def _remove_old(settings: Settings, database: Database, artifacts: ArtifactStore) -> None:
    before = moment() - timedelta(days=settings.retention_days)
    digests: list[str] = []
    with database.write() as connection:
        jobs = ended_before(connection, before, limit=_PER_SWEEP)
        for owner, identifier in jobs:
            digests += Jobs(connection, owner).remove(identifier)
        uploads = idle_before(connection, before, limit=_PER_SWEEP)
        for kind, owner, identifier in uploads:
            repository = Models(connection, owner) if kind == "model" else Datasets(connection, owner)
            digests += repository.remove(identifier)
    if jobs or uploads:
        logger.info(
            "removed %d jobs and %d uploads older than %g days", len(jobs), len(uploads), settings.retention_days
        )
    discard(database, artifacts, digests)


def remove_ray_sessions(folder: Path, *, older_than_s: float = RAY_S) -> list[Path]:
    """Remove the folders of Ray sessions whose processes are gone; return them. Others' are left alone.

    Args:
        folder: Where Ray keeps its sessions on this machine.
        older_than_s: What is younger stays.
    """
    removed = []
    for path in folder.glob("session_*"):
        found = _RAY_SESSION.fullmatch(path.name)
        if found is None or path.is_symlink() or Path(f"/proc/{found[1]}").exists():
            continue
        ours = path.stat().st_uid == os.getuid()
        old = time.time() - path.stat().st_mtime > older_than_s
        if ours and old and not _named_by_a_process(path.name) and not _somebody_listens(path / "sockets"):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


def _named_by_a_process(name: str) -> bool:
    """Whether a process was started with a session's name: `ray start` ends at once, what it starts lives on."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if name.encode() in path.read_bytes():
                return True
        except OSError:  # it has ended meanwhile
            continue
    return False


def _somebody_listens(folder: Path) -> bool:
    """Whether a process answers at a session's sockets: one in another container is in no list of processes here."""
    for path in folder.glob("*"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(path))
            except (TimeoutError, BlockingIOError):  # somebody who is busy
                return True
            except OSError:  # nobody, or it is no socket
                continue
            return True
    return False
