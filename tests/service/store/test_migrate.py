from concurrent.futures import ThreadPoolExecutor

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select

from service.store.database import Database
from service.store.jobs import Jobs
from service.store.migrate import _config, downgrade, is_current, upgrade_to_head
from service.store.tables import artifact_uses, metadata
from service.store.trials import Trials


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


def test_what_the_first_release_stored_is_still_there_and_its_artefacts_are_counted(empty_database: Database) -> None:
    at = "2026-01-02 03:04:05+00:00"
    with empty_database.write() as connection:
        command.upgrade(_config(connection), "0001")
        for statement in (
            f"""INSERT INTO models (id, owner, name, digest, format, task, preprocessing, description, source_artifact,
                graph_artifact, weights_artifact, created_at)
                VALUES ('m', 'local', 'net', '1', 'onnx', 'classification', '{{}}', '{{}}', 'S', 'G', 'W', '{at}')""",
            f"""INSERT INTO datasets (id, owner, name, digest, description, artifact, created_at)
                VALUES ('d', 'local', 'data', '2', '{{}}', 'D', '{at}')""",
            f"""INSERT INTO jobs (id, owner, name, status, model_id, dataset_id, spec, profiles, request_digest,
                created_at, ranges, spent_s, last_event, attempts, epoch)
                VALUES ('j', 'local', 'job', 'done', 'm', 'd', '{{}}', '{{}}', '3', '{at}', '{{}}', 0, 0, 0, 0)""",
            f"""INSERT INTO trials (job_id, number, origin, label, status, candidate, plan, checkpoint, verified,
                created_at) VALUES ('j', 0, 'search', '', 'done', '{{}}', '{{}}',
                '{{"files": {{"packed.zip": {{"digest": "P", "bytes": 7}}}}}}', true, '{at}')""",
        ):
            connection.exec_driver_sql(statement.replace("%", "%%"))

    upgrade_to_head(empty_database)

    with empty_database.read() as connection:
        assert [(job.name, job.trial_counts) for job in Jobs(connection).page()] == [("job", {"done": 1})]
        assert [trial.verified for trial in Trials(connection).page("j")] == [True]
        rows = connection.execute(select(artifact_uses.c.digest, artifact_uses.c.holder, artifact_uses.c.bytes))
        assert {tuple(row) for row in rows} == {
            ("S", "m", 0),
            ("G", "m", 0),
            ("W", "m", 0),
            ("D", "d", 0),
            ("P", "j", 7),
        }
