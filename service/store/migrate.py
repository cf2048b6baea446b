"""Bring a database to the tables that this code expects."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import migrations
from service.store.database import Database

_LOCK = 7_305_808_869_231_651  # any number that nothing else in the database locks


def upgrade_to_head(database: Database) -> None:
    """Upgrade under a lock, in one transaction: of two services that start at once, one waits for the other."""
    with database.write() as connection:  # on SQLite this is the lock
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        command.upgrade(_config(connection), "head")


def downgrade(database: Database, revision: str) -> None:
    """Go back to a revision; ``base`` removes everything."""
    with database.write() as connection:
        command.downgrade(_config(connection), revision)


def is_current(database: Database) -> bool:
    """Whether the database is at the newest revision that this code knows."""
    with database.read() as connection:
        at = MigrationContext.configure(connection).get_current_revision()
        return at == ScriptDirectory.from_config(_config(connection)).get_current_head()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
