"""``/v1/jobs/{id}/sensitivity``: what single choices do to a network."""

from fastapi import APIRouter

from service.api.dependencies import ServicesOf, find_job
from service.api.schemas import ChoiceEffectRead, SensitivityRead
from service.store.sensitivities import Sensitivities

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("/{job_id}/sensitivity")
def read_sensitivity(services: ServicesOf, job_id: str) -> SensitivityRead:
    """Return what each measured choice does alone, by layer, channel group or block; empty if the job measured none.

    Figures are means over the calibration images, in nats. A choice that the search knows of an earlier job with the
    same model, data, split and seed is not measured again, and stands here as well.
    """
    with services.database.read() as connection:
        job = find_job(connection, job_id)
        stored = Sensitivities(connection)
        rows = stored.of(job)
    base = next((row for row in rows if not row.variable), None)
    return SensitivityRead(
        base_divergence=None if base is None else base.divergence,
        base_loss=None if base is None else base.loss,
        choices=[
            ChoiceEffectRead(
                kind=row.variable.partition(" ")[0],
                name=row.variable.partition(" ")[2],
                choice=row.choice,
                divergence=row.divergence,
                loss=row.loss,
            )
            for row in rows
            if row.variable
        ],
    )
