from dataclasses import replace

import numpy as np
import pytest

from service.artifacts import ArtifactStore
from service.front_reading import MAX_SAMPLED, drawn_trials, front_trials
from service.fronts import X_AXES, front_of
from service.recording import Recorder
from service.store.database import Database
from service.store.jobs import Jobs
from service.store.leases import Leases
from service.store.records import JobRecord
from service.store.tables import front_points
from service.store.trials import Trials
from tests.service.events import DEVICE, ended, prepared
from tests.service.test_recording import SPEC, artifacts, claimed, recorder
from workers.events import Event, TrialStatus

__all__ = ["SPEC", "artifacts", "claimed", "recorder"]  # fixtures


def story(count: int, *, seed: int = 0) -> list[Event]:
    """Return trials of random cost and accuracy, with ties; every tenth breaks a limit."""
    rng = np.random.default_rng(seed)
    cost, accuracy = rng.integers(1, 40, count) / 2, rng.integers(1, 30, count) / 30
    return [
        event
        for number in range(count)
        for event in ended(
            number,
            float(cost[number]),
            float(accuracy[number]),
            violations={"latency_ms": 1.0} if number % 10 == 0 else {},
            label="uniform 8 bit" if number == 3 else "",
        )
    ]


def job_of(database: Database, claimed: JobRecord) -> JobRecord:
    with database.read() as connection:
        found = Jobs(connection).get(claimed.id)
        assert found is not None
        return found


@pytest.mark.parametrize("axis", X_AXES)
def test_the_kept_front_is_the_one_computed_from_all_trials(
    database: Database, recorder: Recorder, claimed: JobRecord, axis: str
) -> None:
    events = story(60)
    recorder.commit(prepared())
    for start in range(0, len(events), 14):
        recorder.commit(events[start : start + 14])
    job = job_of(database, claimed)

    with database.read() as connection:
        few, totals = front_trials(connection, job, DEVICE, axis=axis)
        everything = Trials(connection).page(job.id, statuses=[TrialStatus.DONE])

    kept, computed = front_of(job, few, x=axis, totals=totals), front_of(job, everything, x=axis)
    assert len(few) < len(everything)
    assert [row.record.number for row in kept.points] == [row.record.number for row in computed.points]
    assert (kept.feasible, kept.hypervolume, kept.reference) == (
        computed.feasible,
        computed.hypervolume,
        computed.reference,
    )
    assert [row.record.number for row in kept.baselines] == [3]


def test_a_batch_that_is_rolled_back_and_comes_again_counts_once(
    database: Database, recorder: Recorder, claimed: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.commit(prepared())
    with monkeypatch.context() as patched:
        patched.setattr("service.recording.Events.append", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            recorder.commit(story(20))

    recorder.commit(story(20))

    with database.read() as connection:
        _, totals = front_trials(connection, job_of(database, claimed), DEVICE)
    assert totals is not None
    assert (totals.measured, totals.feasible) == (20, 18)


def test_another_dispatcher_goes_on_with_the_front(
    database: Database, artifacts: ArtifactStore, recorder: Recorder, claimed: JobRecord
) -> None:
    recorder.commit([*prepared(), *story(30)])
    with database.write() as connection:
        leases = Leases(connection, seconds=60)
        leases.release(leases.hold(claimed.id, claimed.epoch))
        again = leases.claim("two")
        rows = Trials(connection).page(claimed.id)
    assert again is not None

    Recorder(database, artifacts, again, rows, lease_seconds=60).commit(ended(30, 0.1, 0.99))

    with database.read() as connection:
        trials, totals = front_trials(connection, again, DEVICE, axis="latency_ms")
        stored = connection.execute(front_points.select().where(front_points.c.axis == "latency_ms")).all()
    assert totals is not None
    assert totals.measured == 31
    assert [row.number for row in stored] == [30]  # the cheapest and the most accurate
    assert {row.number for row in trials} == {3, 30}


def test_a_page_reads_few_of_many_trials_but_the_whole_front(
    database: Database, recorder: Recorder, claimed: JobRecord
) -> None:
    count = MAX_SAMPLED + 500
    recorder.commit([*prepared(), *story(count)])
    job = job_of(database, claimed)

    with database.read() as connection:
        drawn = drawn_trials(connection, job, count=count)
        front, _ = front_trials(connection, job, DEVICE)

    assert MAX_SAMPLED / 2 <= len(drawn) <= MAX_SAMPLED + len(front)
    assert {row.number for row in front} <= {row.number for row in drawn}
    assert [row.number for row in drawn] == sorted({row.number for row in drawn})


def test_a_job_of_before_is_computed_from_its_trials(
    database: Database, recorder: Recorder, claimed: JobRecord
) -> None:
    recorder.commit([*prepared(), *story(12)])
    with database.write() as connection:
        connection.execute(front_points.delete())
        connection.exec_driver_sql("DELETE FROM front_totals")

    with database.read() as connection:
        trials, totals = front_trials(connection, replace(job_of(database, claimed)), DEVICE)

    assert totals is None
    assert len(trials) == 12
