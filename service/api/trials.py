"""Trials, fronts and checkpoints."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from hwmodels.errors import InputError
from hwmodels.estimate import estimate
from hwmodels.profile import load_profile
from service.api.answers import written
from service.api.dependencies import Cursor, Limit, ServicesOf, find_job, find_trial
from service.api.presenters import front_read, kernel_rows, trial_read, trials_read
from service.api.schemas import FrontRead, Page, TrialDetail, TrialRead
from service.errors import ConflictError
from service.estimates import workload_of
from service.front_reading import front_trials
from service.fronts import best_of, first_cost, front_of
from service.services import Services
from service.store.records import JobRecord, TrialRecord
from service.store.trials import Trials
from service.uploads import find_model
from workers.events import TrialStatus
from workers.spec import JobSpec

router = APIRouter(prefix="/v1", tags=["trials"])

Format = Literal["packed", "onnx", "fine_tuned", "fine_tuned_onnx"]
FILE_OF: dict[str, tuple[str, str]] = {
    "packed": ("packed.zip", "application/zip"),
    "onnx": ("model.onnx", "application/octet-stream"),
    "fine_tuned": ("fine_tuned.zip", "application/zip"),
    "fine_tuned_onnx": ("fine_tuned.onnx", "application/octet-stream"),
}
Device = Annotated[str | None, Query(max_length=100, description="One of the job's devices; the first by default")]
Axis = Annotated[str | None, Query(max_length=50)]
Drop = Annotated[float | None, Query(ge=0, le=1, description="Most accuracy below the float network's, a fraction")]


@router.get("/jobs/{job_id}/trials", response_model=Page[TrialRead])
def list_trials(
    services: ServicesOf,
    job_id: str,
    status: Annotated[list[TrialStatus] | None, Query(description="Only trials of these statuses")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List the trials of a job by number."""
    after = _number(cursor)
    with services.database.read() as connection:
        job = find_job(connection, job_id)
        rows = Trials(connection).page(job.id, after=after, limit=limit + 1, statuses=status or ())
    following = str(rows[limit - 1].number) if len(rows) > limit else None
    return written(Page[TrialRead](items=trials_read(rows[:limit]), next_cursor=following))


@router.get("/trials/{trial_id}")
def read_trial(services: ServicesOf, trial_id: str) -> TrialDetail:
    """Return a trial with its price per kernel on each device of its job."""
    with services.database.read() as connection:
        job, trial = find_trial(connection, trial_id)
    load = workload_of(services, find_model(services, job.model_id), trial.plan)
    layers = {
        name: kernel_rows(estimate(load, load_profile(profile))) for name, profile in sorted(job.profiles.items())
    }
    return TrialDetail(**trial_read(trial).model_dump(), layers=layers)


@router.get("/jobs/{job_id}/front", response_model=FrontRead)
def read_front(services: ServicesOf, job_id: str, device: Device = None, x: Axis = None, y: Axis = None) -> Response:
    """Return the Pareto front of a job on one device, as it is now."""
    with services.database.read() as connection:
        job = find_job(connection, job_id)
        axis = x or first_cost(JobSpec.from_json(job.spec))
        trials, totals = front_trials(connection, job, device, axis=axis)
    return written(front_read(job, front_of(job, trials, device=device, x=x, y=y, totals=totals)))


@router.get("/jobs/{job_id}/best")
def read_best(services: ServicesOf, job_id: str, device: Device = None, accuracy_drop: Drop = None) -> TrialRead:
    """Return the verified feasible trial within the drop that costs least; 409 with the reason if there is none."""
    job, trials = _job_and_trials(services, job_id, device)
    return trial_read(best_of(job, trials, device=device, accuracy_drop=accuracy_drop).record)


@router.get("/jobs/{job_id}/best/checkpoint")
def download_best(
    services: ServicesOf, job_id: str, device: Device = None, accuracy_drop: Drop = None, format: Format = "packed"
) -> StreamingResponse:
    """Download the checkpoint of the best trial."""
    job, trials = _job_and_trials(services, job_id, device)
    return _download(services, best_of(job, trials, device=device, accuracy_drop=accuracy_drop).record, format)


@router.get("/trials/{trial_id}/checkpoint")
def download_checkpoint(services: ServicesOf, trial_id: str, format: Format = "packed") -> StreamingResponse:
    """Download the checkpoint of a trial; 409 if it has none, or none that was verified."""
    with services.database.read() as connection:
        _, trial = find_trial(connection, trial_id)
    return _download(services, trial, format)


def _job_and_trials(services: Services, job_id: str, device: str | None) -> tuple[JobRecord, list[TrialRecord]]:
    with services.database.read() as connection:
        job = find_job(connection, job_id)
        return job, front_trials(connection, job, device)[0]


def _download(services: Services, trial: TrialRecord, format: Format) -> StreamingResponse:
    file, media_type = FILE_OF[format]
    if trial.checkpoint is None:
        raise ConflictError(
            f"trial {trial.number} has no checkpoint; those on the front get one when the search has ended",
            code="no_checkpoint",
        )
    if not trial.verified:
        raise ConflictError(
            f"the checkpoint of trial {trial.number} disagreed with its trial when it was reloaded: "
            f"{trial.checkpoint['verification'].get('failures')}",
            code="checkpoint_not_verified",
        )
    tuned = trial.checkpoint["verification"].get("fine_tuned", {})
    if format.startswith("fine_tuned") and tuned.get("failures"):
        raise ConflictError(
            f"the fine-tuned checkpoint of trial {trial.number} could not be made or disagreed when it was reloaded: "
            f"{tuned['failures']}",
            code="checkpoint_not_verified",
        )
    if file not in trial.checkpoint["files"]:
        raise ConflictError(f"the checkpoint of trial {trial.number} has no {file}", code="no_checkpoint")
    stored = trial.checkpoint["files"][file]
    headers = {
        "Content-Disposition": f'attachment; filename="trial-{trial.number}-{file}"',
        "Content-Length": str(stored["bytes"]),
        "ETag": f'"{stored["digest"]}"',
    }
    return StreamingResponse(services.artifacts.stream(stored["digest"]), media_type=media_type, headers=headers)


def _number(cursor: str | None) -> int:
    if cursor is None:
        return -1
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 9:
        raise InputError("cursor", "must be the next_cursor of a page of trials", cursor)
    return int(cursor)
