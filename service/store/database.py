"""Connections. The same code runs on SQLite and PostgreSQL; what differs between them is in this file."""

import copy
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic_core import from_json
from sqlalchemy import Connection, Dialect, Double, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from service.store.tables import LOCAL_OWNER

_BUSY_TIMEOUT_MS = 15_000
_TRUSTED_S = 1.0  # since its last use: a connection that broke in this time answers one request with an error
_USED = "tightfit_used"
_READING, _WRITING = 16, 8  # connections that one process keeps open to PostgreSQL, a quarter more while it is busy
_WRITES = "tightfit_writes"  # execution option: this transaction will write
_OWNER = "tightfit_owner"  # execution option: whose rows this transaction may see


class database_now(FunctionElement[float]):  # noqa: N801  a SQL function, written like one
    """Seconds since 1970 on the database's clock: the one clock that all processes share."""

    type = Double()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _now_on_sqlite(element: database_now, compiler: SQLCompiler, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _now_on_postgresql(element: database_now, compiler: SQLCompiler, **options: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


class Database:
    """Pools of connections. ``read`` and ``write`` open a transaction and end it with their block.

    Attributes:
        url: Where the database is.
        reader: Connections that only read, on PostgreSQL outside of transactions; on SQLite all connections.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.url = parsed
        if self.is_sqlite:
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.reader: Engine = self._engine(size=_READING + _WRITING)
            event.listen(self.reader, "connect", _prepare_sqlite)
            event.listen(self.reader, "begin", _begin_sqlite)
            self._writer: Engine = self.reader.execution_options(**{_WRITES: True})
        else:
            # It shows every statement what is committed by then, in a transaction or not: connections that only read
            # are spared the round trips that begin and end one.
            self.reader = self._engine(size=_READING, isolation_level="AUTOCOMMIT", pool_reset_on_return=None)
            self._writer = self._engine(size=_WRITING)
        self._owner: str | None = None

    def _engine(self, *, size: int, **options: Any) -> Engine:
        # NaN is not JSON and PostgreSQL refuses it: refuse it on SQLite too
        dump = partial(json.dumps, allow_nan=False, separators=(",", ":"))
        engine = create_engine(
            self.url,
            json_serializer=dump,
            json_deserializer=_from_json,
            pool_size=size,
            max_overflow=size // 4,
            **options,
        )
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", partial(_replace_if_broken, engine.dialect))
        return engine

    def for_owner(self, owner: str) -> Self:
        """Return the same database as one owner may see it: its transactions carry the owner to the repositories."""
        bound = copy.copy(self)
        bound._owner = owner
        return bound

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads, all of it from one moment on SQLite."""
        with self._begin(self.reader) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes; commit at the end of the block, roll back if it raises.

        SQLite takes its one write lock at once (``BEGIN IMMEDIATE``): a transaction that reads first and asks for the
        lock later may be refused however long it waits.
        """
        with self._begin(self._writer) as connection:
            yield connection

    @contextmanager
    def _begin(self, engine: Engine) -> Iterator[Connection]:
        with engine.connect() as connection:
            if self._owner is not None:
                connection.execution_options(**{_OWNER: self._owner})
            with connection.begin():
                yield connection

    def ping(self) -> None:
        """Raise if the database does not answer."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close all connections."""
        self.reader.dispose()
        self._writer.dispose()


def owner_of(connection: Connection) -> str:
    """Return whose rows a transaction may see."""
    return str(connection.get_execution_options().get(_OWNER, LOCAL_OWNER))


def lock(connection: Connection, key: int) -> None:
    """Keep others who ask for the same key waiting until the transaction ends; on SQLite every write does."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def _from_json(text: str | bytes) -> Any:
    """Parse a stored document; pages of trials hold hundreds, and the standard library takes four times as long."""
    try:
        return from_json(text)
    except ValueError:  # it knows no lone surrogates, and nests less deeply
        return json.loads(text)


def _note_use(connection: object, record: ConnectionPoolEntry) -> None:
    record.info[_USED] = time.monotonic()


def _replace_if_broken(
    dialect: Dialect, connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: object
) -> None:
    """Ask a connection that lay idle whether it still lives; one that was just used need not pay for the question."""
    idle_s = time.monotonic() - record.info.get(_USED, float("inf"))
    if _TRUSTED_S < idle_s < float("inf"):
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool opens another one


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own; _begin_sqlite does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for each other
    cursor.execute("PRAGMA synchronous = NORMAL")  # a killed process loses nothing; a power cut may lose the last rows
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
