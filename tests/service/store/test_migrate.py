from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from service.store.database import Database
from service.store.migrate import downgrade, is_current, upgrade_to_head
from service.store.tables import metadata


def test_head_is_exactly_the_tables_of_the_code(empty_database: Database) -> None:
    upgrade_to_head(empty_database)

    with empty_database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)

    assert differences == []


def test_constraints_carry_the_names_of_the_convention(database: Database) -> None:
    with database.read() as connection:
        inspector = inspect(connection)
        named = {
            constraint["name"]
            for table in metadata.tables
            for constraint in [
                inspector.get_pk_constraint(table),
                *inspector.get_foreign_keys(table),
                *inspector.get_unique_constraints(table),
            ]
        }

    assert {"pk_jobs", "fk_jobs_model_id_models", "uq_jobs_owner_idempotency_key", "pk_trials"} <= named
    assert None not in named


def test_every_step_goes_back(empty_database: Database) -> None:
    upgrade_to_head(empty_database)

    downgrade(empty_database, "base")

    with empty_database.read() as connection:
        left = set(inspect(connection).get_table_names())
    assert left <= {"alembic_version"}
    assert not is_current(empty_database)

    upgrade_to_head(empty_database)
    assert is_current(empty_database)


def test_services_that_start_at_once_upgrade_once(empty_database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        for upgrade in [pool.submit(upgrade_to_head, empty_database) for _ in range(4)]:
            upgrade.result()

    assert is_current(empty_database)
