"""Whether a service could run here, or does: each finding with what to do about it."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from service.artifacts import ArtifactStore
from service.settings import GIB, Settings, is_loopback
from service.store.database import Database
from service.store.dispatchers import all_dispatchers
from service.store.migrate import is_current
from service.store.tokens import Tokens

LEAST_PYTHON = (3, 11)
LEAST_DISK_BYTES, LEAST_MEMORY_BYTES, LEAST_SHARED_BYTES = 2 * GIB, 4 * GIB, GIB // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was looked at, whether it is well, and what was found or should be done."""

    name: str
    well: bool
    text: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield findings; changes nothing but that missing folders are made."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(name="python", well=sys.version_info >= LEAST_PYTHON, text=f"{version}; 3.11 or newer is needed")
    yield _found("home", lambda: _home(settings.home))
    yield _found("memory", _memory)
    yield _found("shared memory", _shared)
    database = Database(settings.database_url)
    try:
        yield _found("database", lambda: _database(database))
        yield _found("artefacts", lambda: _artifacts(settings))
        yield _found("dispatcher and Ray", lambda: _dispatcher(database))
        yield _found("access", lambda: _access(settings, database))
    finally:
        database.close()


def _found(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name=name, well=True, text=look())
    except Exception as error:  # whatever it is, it is the finding
        return Finding(name=name, well=False, text=(str(error).splitlines() or [type(error).__name__])[0])


def _home(home: Path) -> str:
    home.mkdir(parents=True, exist_ok=True)
    probe = home / f".doctor-{os.getpid()}"
    probe.write_bytes(b"")
    probe.unlink()
    free = shutil.disk_usage(home).free
    if free < LEAST_DISK_BYTES:
        raise RuntimeError(f"{home}: {free // 2**20} MiB are free; 2 GiB should be")
    return f"{home}: can be written, {free // GIB} GiB are free"


def _memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total < LEAST_MEMORY_BYTES:
        raise RuntimeError(f"{total // 2**20} MiB; 4 GiB should be there")
    return f"{total // GIB} GiB"


def _shared() -> str:
    path = Path("/dev/shm")
    if not path.exists():
        return "no /dev/shm on this system"
    total = shutil.disk_usage(path).total
    if total < LEAST_SHARED_BYTES:
        raise RuntimeError(f"/dev/shm has {total // 2**20} MiB and Ray wants 512; give a container --shm-size=1g")
    return f"{total // 2**20} MiB"


def _database(database: Database) -> str:
    database.ping()
    if not is_current(database):
        raise RuntimeError("the tables are not those of this version; `tightfit serve` upgrades them")
    return f"{database.url.get_backend_name()}: answers, and its tables are those of this version"


def _artifacts(settings: Settings) -> str:
    store = ArtifactStore(settings.artifacts_url)
    artifact = store.store_bytes(b"doctor")
    whole = store.read(artifact.digest) == b"doctor"
    if not whole:
        raise RuntimeError("what was written came back different")
    return "can be written and read"


def _dispatcher(database: Database) -> str:
    with database.read() as connection:
        alive = [row for row in all_dispatchers(connection) if row.alive]
    if not alive:
        raise RuntimeError("no dispatcher was heard of for a minute; `tightfit serve` starts one")
    bad = [row for row in alive if row.ray != "ok"]
    if bad:
        raise RuntimeError(f"{bad[0].name}: {bad[0].ray}")
    return "; ".join(f"{row.name}: {row.running} jobs in hand, {row.evaluators} evaluators each" for row in alive)


def _access(settings: Settings, database: Database) -> str:
    with database.read() as connection:
        closed, usable = Tokens(connection).any(), Tokens(connection).any_usable()
    if closed and not usable:
        raise RuntimeError("every token is revoked or has expired: nobody can come in; `tightfit token create` helps")
    if not closed and not is_loopback(settings.host):
        raise RuntimeError(f"no tokens, so that {settings.host} will not be bound; `tightfit token create` makes one")
    return "asks for tokens" if closed else "open, on loopback alone"
