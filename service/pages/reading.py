"""What pages read of the store, as the API presents it."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.api.dependencies import find_job
from service.api.presenters import job_read, job_summary, trials_read
from service.api.schemas import JobRead, JobSummary, TrialRead
from service.errors import NotFoundError
from service.front_reading import drawn_trials
from service.services import Services
from service.store.jobs import Jobs
from service.store.records import DatasetRecord, ModelRecord
from service.store.uploads import Datasets, Models

JOBS_PER_PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDocuments:
    """A job with what its page speaks of."""

    job: JobRead
    model: ModelRecord
    dataset: DatasetRecord
    trials: Sequence[TrialRead]
    last_event: int


def read_job(services: Services, identifier: str, *, trials: bool = True) -> JobDocuments:
    """Return a job with its network, its data and the trials that are drawn, all of one moment.

    Raises:
        NotFoundError: There is no such job.
    """
    with services.database.read() as connection:
        record = find_job(connection, identifier)
        model = Models(connection).get(record.model_id)
        dataset = Datasets(connection).get(record.dataset_id)
        if model is None or dataset is None:
            raise NotFoundError("job", identifier)
        counts = Jobs(connection).trial_counts([record])[identifier]
        found = drawn_trials(connection, record, count=sum(counts.values())) if trials else []
    return JobDocuments(
        job=job_read(record, counts),
        model=model,
        dataset=dataset,
        trials=trials_read(found),
        last_event=record.last_event,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobList:
    """Some of the jobs, newest first, and the names of their networks."""

    jobs: Sequence[JobSummary]
    model_names: dict[str, str]
    next_cursor: str | None


def read_jobs(services: Services, *, before: str | None) -> JobList:
    """Return the newest jobs, older than the job ``before`` if that is given."""
    with services.database.read() as connection:
        found = Jobs(connection).page(before=before, limit=JOBS_PER_PAGE + 1)
        shown = found[:JOBS_PER_PAGE]
        counts = Jobs(connection).trial_counts(shown)
        models = Models(connection)
        names = {identifier: models.get(identifier) for identifier in {job.model_id for job in shown}}
    return JobList(
        jobs=[job_summary(job, counts[job.id]) for job in shown],
        model_names={identifier: identifier if row is None else row.name for identifier, row in names.items()},
        next_cursor=shown[-1].id if len(found) > JOBS_PER_PAGE else None,
    )


def verified_count(trials: Sequence[TrialRead]) -> int:
    """Return how many trials have a verified checkpoint."""
    return sum(trial.checkpoint is not None and trial.checkpoint.verified for trial in trials)
