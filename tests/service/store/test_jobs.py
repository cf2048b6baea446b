from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from service.errors import ConflictError, LeaseLostError, NotFoundError
from service.store.database import Database
from service.store.events import Events
from service.store.jobs import Jobs, change, change_status
from service.store.leases import Leases
from service.store.records import JobRecord
from service.store.states import ACTIVE, ENDED, TRANSITIONS, JobStatus, check_transition
from service.store.tables import events, trials
from service.store.trials import Trials
from tests.service.store.rows import job, submitted, trial
from workers.events import TrialStatus

PATHS = {  # a legal way from queued to each status
    JobStatus.QUEUED: [],
    JobStatus.PREPARING: [JobStatus.PREPARING],
    JobStatus.SEARCHING: [JobStatus.PREPARING, JobStatus.SEARCHING],
    JobStatus.REFINING: [JobStatus.PREPARING, JobStatus.SEARCHING, JobStatus.REFINING],
    JobStatus.PACKAGING: [JobStatus.PREPARING, JobStatus.SEARCHING, JobStatus.PACKAGING],
    JobStatus.PAUSED: [JobStatus.PAUSED],
    JobStatus.DONE: [JobStatus.PREPARING, JobStatus.SEARCHING, JobStatus.DONE],
    JobStatus.CANCELLED: [JobStatus.CANCELLED],
    JobStatus.FAILED: [JobStatus.FAILED],
}


def job_that_is(database: Database, status: JobStatus) -> JobRecord:
    with database.write() as connection:
        record = submitted(connection)
        for step in PATHS[status]:
            record = change_status(connection, record, step)
        if status in ACTIVE:
            change(connection, record, {"lease_owner": "one", "lease_until": 1e12})
    return record


def test_a_job_comes_back_as_it_was_submitted(database: Database) -> None:
    wanted = job(key="once")

    with database.write() as connection:
        submitted(connection, wanted)

    with database.read() as connection:
        stored = Jobs(connection).get(wanted.id)
    assert stored is not None
    assert (stored.spec, stored.created_at, stored.status) == (wanted.spec, wanted.created_at, JobStatus.QUEUED)
    assert stored.last_event == 1


def test_the_same_request_with_the_same_key_is_one_job(database: Database) -> None:
    with database.write() as connection:
        first = submitted(connection, job(key="once"))

    with database.write() as connection:
        second, new = Jobs(connection).submit(job(key="once"))

    assert (second.id, new) == (first.id, False)


def test_another_request_with_the_same_key_is_refused(database: Database) -> None:
    with database.write() as connection:
        submitted(connection, job(key="once"))

    with pytest.raises(ConflictError, match="Idempotency-Key 'once'"), database.write() as connection:
        Jobs(connection).submit(job(key="once", digest="8" * 64))


@pytest.mark.parametrize("action", [Jobs.cancel, Jobs.pause, Jobs.resume, Jobs.remove])
def test_a_job_that_another_transaction_has_removed_is_unknown(
    database: Database, action: Callable[[Jobs, str], object]
) -> None:
    with pytest.raises(NotFoundError), database.write() as connection:
        action(Jobs(connection), "0" * 32)


def test_jobs_without_a_key_are_all_different(database: Database) -> None:
    with database.write() as connection:
        assert submitted(connection, job()).id != submitted(connection, job()).id


def test_pages_run_from_the_newest_job_to_the_oldest(database: Database) -> None:
    with database.write() as connection:
        oldest, middle, newest = (submitted(connection, job()).id for _ in range(3))

    with database.read() as connection:
        jobs = Jobs(connection)
        pages = [
            [record.id for record in jobs.page(limit=2)],
            [record.id for record in jobs.page(limit=2, before=sorted([oldest, middle, newest])[1])],
        ]

    assert pages == [sorted([oldest, middle, newest])[:0:-1], [min(oldest, middle, newest)]]


def test_pages_can_be_of_some_statuses_only(database: Database) -> None:
    paused = job_that_is(database, JobStatus.PAUSED)
    job_that_is(database, JobStatus.DONE)

    with database.read() as connection:
        page = Jobs(connection).page(statuses=[JobStatus.PAUSED])

    assert [record.id for record in page] == [paused.id]


@pytest.mark.parametrize("status", ENDED)
def test_nothing_leaves_an_ended_status(status: JobStatus) -> None:
    assert TRANSITIONS[status] == frozenset()
    with pytest.raises(ConflictError, match=f"a job that is {status} cannot become queued"):
        check_transition(status, JobStatus.QUEUED)


@pytest.mark.parametrize(
    ("status", "action", "becomes", "request_left"),
    [
        (JobStatus.QUEUED, Jobs.cancel, JobStatus.CANCELLED, None),
        (JobStatus.PAUSED, Jobs.cancel, JobStatus.CANCELLED, None),
        (JobStatus.CANCELLED, Jobs.cancel, JobStatus.CANCELLED, None),
        (JobStatus.SEARCHING, Jobs.cancel, JobStatus.SEARCHING, "cancel"),
        (JobStatus.QUEUED, Jobs.pause, JobStatus.PAUSED, None),
        (JobStatus.SEARCHING, Jobs.pause, JobStatus.SEARCHING, "pause"),
        (JobStatus.PAUSED, Jobs.resume, JobStatus.QUEUED, None),
        (JobStatus.SEARCHING, Jobs.resume, JobStatus.SEARCHING, None),
    ],
)
def test_a_command_acts_at_once_or_asks_the_dispatcher(
    database: Database,
    status: JobStatus,
    action: Callable[[Jobs, str], JobRecord],
    becomes: JobStatus,
    request_left: str | None,
) -> None:
    before = job_that_is(database, status)

    with database.write() as connection:
        after = action(Jobs(connection), before.id)

    assert (after.status, after.request) == (becomes, request_left)


@pytest.mark.parametrize("status", [JobStatus.DONE, JobStatus.FAILED])
@pytest.mark.parametrize("action", [Jobs.cancel, Jobs.pause, Jobs.resume])
def test_commands_to_an_ended_job_are_conflicts(
    database: Database, status: JobStatus, action: Callable[[Jobs, str], JobRecord]
) -> None:
    before = job_that_is(database, status)

    with pytest.raises(ConflictError), database.write() as connection:
        action(Jobs(connection), before.id)


@pytest.mark.parametrize("lease_until", [None, 1.0])
def test_a_running_job_that_no_dispatcher_holds_obeys_at_once(database: Database, lease_until: float | None) -> None:
    before = job_that_is(database, JobStatus.SEARCHING)
    with database.write() as connection:
        change(connection, before, {"lease_until": lease_until})

        paused = Jobs(connection).pause(before.id)
        cancelled = Jobs(connection).cancel(before.id)

    assert (paused.status, cancelled.status) == (JobStatus.PAUSED, JobStatus.CANCELLED)
    with pytest.raises(LeaseLostError), database.write() as connection:
        Leases(connection, seconds=60).hold(before.id, before.epoch)  # it was only late


def test_a_pause_does_not_undo_a_cancellation(database: Database) -> None:
    before = job_that_is(database, JobStatus.SEARCHING)

    with database.write() as connection:
        Jobs(connection).cancel(before.id)
        after = Jobs(connection).pause(before.id)

    assert after.request == "cancel"


def test_deleting_takes_trials_and_events_along(database: Database) -> None:
    record = job_that_is(database, JobStatus.DONE)
    with database.write() as connection:
        Trials(connection).save(record.id, trial(0, TrialStatus.DONE))

    with database.write() as connection:
        Jobs(connection).remove(record.id)

    with database.read() as connection:
        left = [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (trials, events)]
    assert left == [0, 0]


def test_a_trial_in_flight_ends_with_its_job(database: Database) -> None:
    record = job_that_is(database, JobStatus.PAUSED)
    with database.write() as connection:
        Trials(connection).save(record.id, trial(0, TrialStatus.DONE))
        Trials(connection).save(record.id, trial(1))

    with database.write() as connection:
        Jobs(connection).cancel(record.id)

    with database.read() as connection:
        counts = Jobs(connection).trial_counts([record])
    assert counts == {record.id: {"done": 1, "failed": 1}}


@pytest.mark.parametrize("status", ACTIVE)
def test_a_running_job_is_not_deleted(database: Database, status: JobStatus) -> None:
    record = job_that_is(database, status)

    with pytest.raises(ConflictError, match="cancel it before"), database.write() as connection:
        Jobs(connection).remove(record.id)


def test_events_count_up_within_each_job(database: Database) -> None:
    record = job_that_is(database, JobStatus.SEARCHING)  # queued, preparing, searching
    job_that_is(database, JobStatus.PREPARING)

    with database.write() as connection:
        Events(connection).append(record.id, [("progress", {"done": 1}), ("progress", {"done": 2})])

    with database.read() as connection:
        history = Events(connection).after(record.id, 2)
    assert [(event.sequence, event.kind, event.data) for event in history] == [
        (3, "status", {"status": "searching", "reason": None}),
        (4, "progress", {"done": 1}),
        (5, "progress", {"done": 2}),
    ]
