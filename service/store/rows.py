"""Small things that all repositories use."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Executable, Result, Row, Table
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


def values_of(row: Any) -> dict[str, Any]:
    """Return the columns of a record: what ``dataclasses.asdict`` does, without copying the documents in it."""
    return {each.name: getattr(row, each.name) for each in fields(row)}


def insert_unless_there(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless a unique constraint says it is there; say whether it was inserted.

    Waits for a transaction that is inserting the same row, so that a look at the table afterwards finds it.
    """
    return _insert(connection, table, values, tuple(table.primary_key)) is not None


def inserted_unless_there(connection: Connection, table: Table, values: Mapping[str, Any]) -> Row[Any] | None:
    """Do the same and return the row as it is stored, ``None`` if it was not inserted."""
    return _insert(connection, table, values, tuple(table.c))


def _insert(
    connection: Connection, table: Table, values: Mapping[str, Any], returned: tuple[Column[Any], ...]
) -> Row[Any] | None:
    return connection.execute(_insertion(table, connection.dialect.name, returned), values).one_or_none()


@cache  # to put a statement together takes longer than to run it
def _insertion(table: Table, dialect: str, returned: tuple[Column[Any], ...]) -> Executable:
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement: Executable = insert(table).on_conflict_do_nothing().returning(*returned)
    return statement
