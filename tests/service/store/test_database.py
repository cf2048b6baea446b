from typing import Any

import pytest
from sqlalchemy import text

from service.store.database import Database
from service.store.jobs import Jobs
from tests.service.store.rows import job, submitted


def nested(depth: int) -> dict[str, Any]:
    return {"inner": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize("document", [{"name": "\ud800"}, nested(300), {"count": 2**70}, {"text": "é\n\"'"}])
def test_every_document_comes_back_as_it_went_in(database: Database, document: dict[str, Any]) -> None:
    with database.write() as connection:
        job_id = submitted(connection, job(spec=document)).id

    with database.read() as connection:
        stored = Jobs(connection).get(job_id)
    assert stored is not None
    assert stored.spec == document


def test_who_reads_sees_what_was_committed_meanwhile_on_postgresql_and_one_moment_on_sqlite(
    database: Database,
) -> None:
    with database.read() as reading:
        before = reading.execute(text("SELECT count(*) FROM jobs")).scalar_one()
        with database.write() as connection:
            submitted(connection)
        after = reading.execute(text("SELECT count(*) FROM jobs")).scalar_one()

    assert after - before == (0 if database.is_sqlite else 1)


def test_an_owner_sees_nothing_of_others(database: Database) -> None:
    with database.write() as connection:
        job_id = submitted(connection).id

    with database.for_owner("somebody else").read() as connection:
        assert Jobs(connection).get(job_id) is None
        assert Jobs(connection).page() == []
        assert Jobs(connection).counts() == (0, 0)
