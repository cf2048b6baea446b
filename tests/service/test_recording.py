from pathlib import Path

import pytest

from service.artifacts import ArtifactStore
from service.errors import LeaseLostError
from service.recording import Recorder
from service.store.artifact_uses import ArtifactUses
from service.store.database import Database
from service.store.events import Events
from service.store.groundwork import groundwork
from service.store.jobs import Jobs
from service.store.leases import Leases
from service.store.records import EventRecord, JobRecord, TrialRecord
from service.store.trials import Trials
from tests.service.events import DEVICE, checkpoint, ended, evaluation, prepared, trial
from tests.service.store.rows import job, submitted
from workers.events import CheckpointReady, GroundworkDone, JobEnded, Progress, StatusChanged, TrialEnded, TrialStarted
from workers.spec import DeviceTarget, JobSpec

SPEC = JobSpec(name="small", devices=(DeviceTarget(name=DEVICE),)).to_json()


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore((tmp_path / "artifacts").as_uri())


@pytest.fixture
def claimed(database: Database) -> JobRecord:
    with database.write() as connection:
        submitted(connection, job(spec=SPEC))
        record = Leases(connection, seconds=60).claim("one")
    assert record is not None
    return record


@pytest.fixture
def recorder(database: Database, artifacts: ArtifactStore, claimed: JobRecord) -> Recorder:
    return Recorder(database, artifacts, claimed, [], lease_seconds=60)


def stored(database: Database, identifier: str) -> tuple[JobRecord, list[TrialRecord], list[EventRecord]]:
    with database.read() as connection:
        record = Jobs(connection).get(identifier)
        assert record is not None
        return record, Trials(connection).page(identifier), Events(connection).after(identifier, 0)


def test_a_batch_that_comes_twice_counts_once(database: Database, recorder: Recorder, claimed: JobRecord) -> None:
    batch = [*prepared(), *ended(0, 5.0, 0.8), *ended(1, 4.0, 0.7)]

    recorder.commit(batch)
    once = stored(database, claimed.id)
    recorder.commit(ended(1, 9.0, 0.1))
    twice = stored(database, claimed.id)

    assert [row.number for row in once[1]] == [0, 1]
    assert twice[1] == once[1]
    assert [event.kind for event in twice[2]] == [event.kind for event in once[2]]


def test_a_job_knows_how_many_trials_it_has_of_each_status(
    database: Database, artifacts: ArtifactStore, recorder: Recorder, claimed: JobRecord
) -> None:
    recorder.commit([*prepared(), *ended(0, 5.0, 0.8), *ended(0, 5.0, 0.8), TrialStarted(trial=trial(1, None))])
    first = stored(database, claimed.id)
    another = Recorder(database, artifacts, first[0], first[1], lease_seconds=60)
    with pytest.raises(Exception, match="JSON"):
        another.commit([TrialStarted(trial=trial(2, None)), TrialEnded(trial=trial(1, evaluation(float("nan"), 0.5)))])
    another.commit([TrialStarted(trial=trial(2, None))])
    second, _, _ = stored(database, claimed.id)
    another.commit([*ended(1, 4.0, 0.7), JobEnded(status="failed", reason="no more")])
    third, trials, _ = stored(database, claimed.id)

    assert first[0].trial_counts == {"done": 1, "running": 1}
    assert second.trial_counts == {"done": 1, "running": 2}
    assert third.trial_counts == {"done": 2, "failed": 1}
    assert [trial.status for trial in trials] == ["done", "done", "failed"]


def test_a_batch_without_the_lease_leaves_no_row(database: Database, recorder: Recorder, claimed: JobRecord) -> None:
    with database.write() as connection:
        leases = Leases(connection, seconds=60)
        leases.release(leases.hold(claimed.id, claimed.epoch))
        assert leases.claim("another") is not None
    before = stored(database, claimed.id)

    with pytest.raises(LeaseLostError):
        recorder.commit([*prepared(), *ended(0, 5.0, 0.8)])

    assert stored(database, claimed.id) == before


def test_a_failure_in_the_middle_of_a_batch_leaves_no_row(
    database: Database, recorder: Recorder, claimed: JobRecord
) -> None:
    before = stored(database, claimed.id)
    no_json = TrialEnded(trial=trial(0, evaluation(float("nan"), 0.5)))

    with pytest.raises(Exception, match="not JSON compliant"):
        recorder.commit([*prepared(), TrialStarted(trial=trial(0, None)), no_json])

    assert stored(database, claimed.id) == before


def test_artefacts_are_there_before_anything_names_them(
    database: Database, recorder: Recorder, artifacts: ArtifactStore, claimed: JobRecord
) -> None:
    recorder.commit([*prepared(), *ended(0, 5.0, 0.8)])

    event = checkpoint(0)
    recorder.commit([event])

    _, trials, _ = stored(database, claimed.id)
    assert isinstance(event, CheckpointReady)
    assert trials[0].checkpoint is not None
    for name, content in event.files.items():
        assert artifacts.read(trials[0].checkpoint["files"][name]["digest"]) == content


def test_groundwork_is_kept_as_artefacts_that_the_job_uses(
    database: Database, recorder: Recorder, artifacts: ArtifactStore, claimed: JobRecord
) -> None:
    recorder.commit([GroundworkDone(key="l2", content=b"old"), GroundworkDone(key="block a", content=b"tensors")])
    recorder.commit([GroundworkDone(key="l2", content=b"scores")])

    with database.write() as connection:
        found = groundwork(connection, claimed.id)
        used = ArtifactUses(connection).release(claimed.id)
    assert {key: artifacts.read(digest) for key, digest in found.items()} == {"l2": b"scores", "block a": b"tensors"}
    assert set(found.values()) < set(used)


def test_a_trial_that_ends_takes_back_what_was_counted_against_the_job(
    database: Database, recorder: Recorder, claimed: JobRecord
) -> None:
    recorder.commit(prepared(), spent_s=2.5)
    assert stored(database, claimed.id)[0].attempts == 1

    recorder.commit(ended(0, 5.0, 0.8), spent_s=1.5)

    record, _, _ = stored(database, claimed.id)
    assert (record.attempts, record.spent_s) == (0, 4.0)


def test_fronts_go_on_from_the_trials_of_an_earlier_run(
    database: Database, artifacts: ArtifactStore, recorder: Recorder, claimed: JobRecord
) -> None:
    recorder.commit([*prepared(), *ended(0, 5.0, 0.8)])
    _, trials, _ = stored(database, claimed.id)
    later = Recorder(database, artifacts, claimed, trials, lease_seconds=60)

    later.commit([*ended(1, 6.0, 0.8), *ended(2, 4.0, 0.7), *ended(3, 1.0, 0.9)])

    joined = [event.data["id"] for event in stored(database, claimed.id)[2] if event.kind == "front"]
    assert joined == [f"{claimed.id}-{number}" for number in (0, 2, 3)]  # 0 beats 1


@pytest.mark.parametrize("status", ["done", "failed"])
def test_the_end_of_a_job_gives_the_lease_back(
    database: Database, recorder: Recorder, claimed: JobRecord, status: str
) -> None:
    recorder.commit([*prepared(), TrialStarted(trial=trial(0, None)), Progress(done=0, total=1, seconds_left=None)])

    recorder.commit([StatusChanged(status="packaging"), JobEnded(status=status, reason="so it is")])

    record, trials, events = stored(database, claimed.id)
    assert (record.status, record.reason, record.lease_owner) == (status, "so it is", None)
    assert record.ended_at is not None
    assert [row.status for row in trials] == ["failed"]  # it was in flight
    assert events[-1].data["status"] == status
