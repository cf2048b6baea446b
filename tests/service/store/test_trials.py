from service.store.database import Database
from service.store.jobs import Jobs
from service.store.trials import Trials
from service.store.uploads import Models
from tests.service.store.rows import MODEL, renamed, submitted, trial
from workers.events import TrialStatus


def test_a_trial_is_a_row_when_it_starts_and_changes_once(database: Database) -> None:
    with database.write() as connection:
        job_id = submitted(connection).id
        trials = Trials(connection)
        changed = [
            trials.save(job_id, trial(0)),
            trials.save(job_id, trial(0, TrialStatus.DONE)),
            trials.save(job_id, trial(0, TrialStatus.FAILED)),  # reported again: too late
            trials.save(job_id, trial(0)),
        ]

    with database.read() as connection:
        stored = Trials(connection).get(job_id, 0)
    assert changed == [True, True, False, False]
    assert stored is not None
    assert stored.status == "done"
    assert stored.ended_at is not None
    assert stored.id == f"{job_id}-0"


def test_a_trial_in_flight_may_start_again_under_its_number(database: Database) -> None:
    with database.write() as connection:
        job = submitted(connection)
        Trials(connection).save(job.id, trial(3))
        Trials(connection).save(job.id, trial(3))

        counts = Jobs(connection).trial_counts([job])

    assert counts == {job.id: {"running": 1}}


def test_pages_run_by_number(database: Database) -> None:
    with database.write() as connection:
        job_id = submitted(connection).id
        for number in (2, 0, 1):
            Trials(connection).save(job_id, trial(number, TrialStatus.DONE))

        pages = [Trials(connection).page(job_id, limit=2), Trials(connection).page(job_id, after=1, limit=2)]

    assert [[row.number for row in page] for page in pages] == [[0, 1], [2]]


def test_a_checkpoint_is_noted_at_its_trial(database: Database) -> None:
    with database.write() as connection:
        job_id = submitted(connection).id
        for number in (0, 1):
            Trials(connection).save(job_id, trial(number, TrialStatus.DONE))
        Trials(connection).save_checkpoint(job_id, 1, {"files": {}}, verified=True)

        rows = Trials(connection).page(job_id)

    assert [(row.checkpoint, row.verified) for row in rows] == [(None, False), ({"files": {}}, True)]


def test_the_same_upload_is_stored_once(database: Database) -> None:
    with database.write() as connection:
        first, new = Models(connection).add(MODEL)
        second, again = Models(connection).add(renamed(MODEL))

        assert (new, again) == (True, False)
        assert second == first == Models(connection).get(MODEL.id)
        assert [row.id for row in Models(connection).page()] == [MODEL.id]
