"""``/v1/jobs/{id}/study``: a job's search for Optuna's own tools."""

import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.api.dependencies import ServicesOf, find_job
from service.store.trials import Trials
from service.study_export import write_study

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MEDIA_TYPE = "application/x-ndjson"


@router.get("/{job_id}/study", response_class=Response, responses={200: {"content": {MEDIA_TYPE: {}}}})
def download_study(
    services: ServicesOf,
    job_id: str,
    device: Annotated[str | None, Query(max_length=100, description="One of the job's; the first by default")] = None,
) -> Response:
    """Download the trials of a job as an Optuna journal file, which optuna-dashboard opens."""
    with services.database.read() as connection:
        job = find_job(connection, job_id)
        trials = Trials(connection).page(job.id)
    with tempfile.TemporaryDirectory(dir=services.settings.temporary) as folder:
        path = Path(folder) / "study.journal"
        write_study(job, trials, path, device=device)
        content = path.read_bytes()
    headers = {"Content-Disposition": f'attachment; filename="{job.id}.journal"'}
    return Response(content, media_type=MEDIA_TYPE, headers=headers)
