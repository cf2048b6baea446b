"""Small things that all repositories use."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Result, Row, Table
from sqlalchemy.dialects import postgresql, sqlite

Record = TypeVar("Record")


def moment() -> datetime:
    """Return the present moment in UTC, for timestamps that people read; leases use the database's clock."""
    return datetime.now(UTC)


def record(kind: type[Record], row: Row[Any]) -> Record:
    """Make a record of a row that has exactly its columns."""
    return kind(**row._mapping)


def records(kind: type[Record], result: Result[Any]) -> list[Record]:
    """Make records of all rows of a result that has exactly their columns."""
    names = tuple(result.keys())
    return [kind(**dict(zip(names, row, strict=True))) for row in result.all()]  # fetched at once


def insert_unless_there(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless a unique constraint says it is there; say whether it was inserted.

    Waits for a transaction that is inserting the same row, so that a look at the table afterwards finds it.
    """
    insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**values).on_conflict_do_nothing().returning(*table.primary_key)
    return connection.execute(statement).one_or_none() is not None
