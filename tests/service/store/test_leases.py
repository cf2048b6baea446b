from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from service.errors import LeaseLostError
from service.store.database import Database
from service.store.jobs import Jobs, change
from service.store.leases import Leases
from service.store.records import JobRecord
from service.store.states import JobStatus
from tests.service.store.rows import job, submitted


def claim(database: Database, dispatcher: str, *, seconds: float = 60.0) -> JobRecord | None:
    with database.write() as connection:
        return Leases(connection, seconds=seconds).claim(dispatcher)


def test_the_oldest_job_is_claimed_first_and_only_once(database: Database) -> None:
    with database.write() as connection:
        first = submitted(connection, job())
        second = submitted(connection, replace(job(), id="f" * 32))

    claimed = [claim(database, name) for name in ("a", "b", "c")]

    assert [taken and taken.id for taken in claimed] == [first.id, second.id, None]
    assert [taken.epoch for taken in claimed if taken] == [1, 1]


def test_many_dispatchers_claim_each_job_once(database: Database) -> None:
    with database.write() as connection:
        wanted = {submitted(connection, replace(job(), id=f"{number:032x}")).id for number in range(12)}

    with ThreadPoolExecutor(6) as pool:
        claimed = [taken.id for taken in pool.map(lambda name: claim(database, name), map(str, range(18))) if taken]

    # 18 attempts on 12 jobs may miss one that another dispatcher is taking, but take none twice
    assert len(claimed) == len(set(claimed))
    claimed += [taken.id for taken in iter(lambda: claim(database, "last"), None)]
    assert len(claimed) == len(set(claimed))
    assert set(claimed) == wanted


def test_a_lease_that_ran_out_is_adopted_and_the_former_holder_is_fenced_off(database: Database) -> None:
    with database.write() as connection:
        submitted(connection)
    former = claim(database, "former", seconds=-1.0)  # ran out a second ago
    assert former is not None

    adopter = claim(database, "adopter")

    assert adopter is not None
    assert (adopter.id, adopter.epoch) == (former.id, 2)
    with pytest.raises(LeaseLostError), database.write() as connection:
        Leases(connection, seconds=60.0).hold(former.id, former.epoch)


def test_holding_renews_a_lease_on_the_clock_of_the_database(database: Database) -> None:
    with database.write() as connection:
        submitted(connection)
    taken = claim(database, "one", seconds=-1.0)
    assert taken is not None

    with database.write() as connection:
        held = Leases(connection, seconds=60.0).hold(taken.id, taken.epoch)

    assert claim(database, "two") is None
    assert taken.lease_until is not None
    assert held.lease_until is not None
    assert held.lease_until - taken.lease_until == pytest.approx(61.0, abs=5.0)


def test_a_released_job_can_be_claimed_at_once_and_an_ended_one_never(database: Database) -> None:
    with database.write() as connection:
        submitted(connection)
    taken = claim(database, "one")
    assert taken is not None
    with database.write() as connection:
        leases = Leases(connection, seconds=60.0)
        leases.release(leases.hold(taken.id, taken.epoch), JobStatus.PREPARING)

    again = claim(database, "two")
    assert again is not None
    assert again.attempts == 1  # giving it back in order undid the first start
    with database.write() as connection:
        leases = Leases(connection, seconds=60.0)
        leases.release(leases.hold(again.id, again.epoch), JobStatus.FAILED, "for a reason")

    assert claim(database, "three") is None
    with database.read() as connection:
        ended = Jobs(connection).get(taken.id)
    assert ended is not None
    assert (ended.status, ended.reason, ended.lease_owner) == (JobStatus.FAILED, "for a reason", None)


def test_nothing_of_a_transaction_stays_that_loses_its_lease(database: Database) -> None:
    with database.write() as connection:
        queued = submitted(connection)

    with pytest.raises(LeaseLostError), database.write() as connection:
        _report_progress_then_hold(connection, queued)

    with database.read() as connection:
        stored = Jobs(connection).get(queued.id)
    assert stored is not None
    assert stored.progress is None


def _report_progress_then_hold(connection: Connection, queued: JobRecord) -> None:
    change(connection, queued, {"progress": {"done": 1}})
    Leases(connection, seconds=60.0).hold(queued.id, epoch=7)


def test_owners_take_turns_whoever_submitted_more(database: Database) -> None:
    with database.write() as connection:
        submitted(connection)  # makes model and data, and is the first job of `local`
        for owner in ("local", "local", "ann", "ann", "bob"):
            record = replace(job(), owner=owner)
            Jobs(connection, owner).submit(record)

    with database.write() as connection:
        claimed = [Leases(connection, seconds=60).claim("one") for _ in range(6)]

    assert [record.owner for record in claimed if record] == ["local", "ann", "bob", "local", "ann", "local"]


def test_jobs_that_had_begun_come_before_those_that_wait(database: Database) -> None:
    with database.write() as connection:
        waiting = submitted(connection, replace(job(), id="0" * 32))
        begun = submitted(connection, replace(job(), id="f" * 32, status=JobStatus.SEARCHING))

    claimed = [claim(database, "one"), claim(database, "one")]

    assert [taken and taken.id for taken in claimed] == [begun.id, waiting.id]


def test_places_are_kept_for_jobs_whose_dispatcher_does_not_renew(database: Database) -> None:
    with database.write() as connection:
        submitted(connection, replace(job(), id="0" * 32))
        waiting = submitted(connection, replace(job(), id="f" * 32))
    assert claim(database, "dead", seconds=20.0) is not None

    def taken_by(name: str, *, places: int, seconds: float) -> str | None:
        with database.write() as connection:
            record = Leases(connection, seconds=seconds).claim(name, places=places)
        return record.id if record else None

    # 20 s are left of 60: whoever is alive has renewed it before.
    assert taken_by("alive", places=1, seconds=60.0) is None
    assert taken_by("alive", places=2, seconds=60.0) == waiting.id


def test_a_lease_that_is_renewed_keeps_no_place_free(database: Database) -> None:
    with database.write() as connection:
        submitted(connection, replace(job(), id="0" * 32))
        waiting = submitted(connection, replace(job(), id="f" * 32))
    assert claim(database, "one", seconds=20.0) is not None

    taken = claim(database, "two", seconds=30.0)

    assert taken is not None
    assert taken.id == waiting.id
