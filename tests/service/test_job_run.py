import json
from pathlib import Path

from service.artifacts import ArtifactStore
from service.job_run import JobRun
from service.settings import Settings
from service.store.database import Database
from service.store.jobs import Jobs
from service.store.leases import Leases
from service.store.records import JobRecord
from service.store.states import JobStatus
from tests.service.api.conftest import wait_until
from tests.service.store.rows import MODEL, job, submitted
from workers.cluster import ClusterAwayError
from workers.spec import DeviceTarget, JobSpec

SPEC = json.loads(json.dumps(JobSpec(name="small", devices=(DeviceTarget(name="raspberry-pi-4"),)).to_json()))


def stored(database: Database, identifier: str) -> JobRecord:
    with database.read() as connection:
        record = Jobs(connection).get(identifier)
    assert record is not None
    return record


def test_a_job_whose_files_cannot_be_read_says_so_and_is_not_given_up(tmp_path: Path, database: Database) -> None:
    artifacts = ArtifactStore((tmp_path / "artifacts").as_uri())
    digest = MODEL.graph_artifact
    (tmp_path / "artifacts" / digest[:2] / digest).mkdir(parents=True)  # there, and reading it is an OSError
    with database.write() as connection:
        submitted(connection, job(spec=SPEC))
        claimed = Leases(connection, seconds=60).claim("one")
    assert claimed is not None
    run = JobRun(Settings(home=tmp_path), database, artifacts, claimed, evaluators=lambda: 1)

    run.start()
    wait_until(lambda: stored(database, claimed.id).reason is not None)
    waiting = stored(database, claimed.id)
    run.stop()
    run.join(20)

    left = stored(database, claimed.id)
    assert waiting.reason == "waiting: what the job needs cannot be read (Is a directory)"
    assert waiting.attempts == 1  # no start that failed
    assert not run.alive
    assert (left.status, left.reason, left.lease_owner) == (JobStatus.QUEUED, None, None)


def test_a_job_waits_for_a_cluster_that_is_gone_when_its_driver_would_start(tmp_path: Path, database: Database) -> None:
    def evaluators() -> int:
        raise ClusterAwayError("the head is gone")

    with database.write() as connection:
        submitted(connection, job(spec=SPEC))
        claimed = Leases(connection, seconds=60).claim("one")
    assert claimed is not None
    artifacts = ArtifactStore((tmp_path / "artifacts").as_uri())
    run = JobRun(Settings(home=tmp_path), database, artifacts, claimed, evaluators=evaluators)

    run.start()
    wait_until(lambda: stored(database, claimed.id).reason is not None)
    waiting = stored(database, claimed.id)
    run.stop()
    run.join(20)

    assert (waiting.status, waiting.reason) == (JobStatus.QUEUED, "waiting: Ray does not answer (the head is gone)")
    assert waiting.attempts == 1  # no start that failed
    assert not run.alive
