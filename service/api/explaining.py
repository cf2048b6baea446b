"""``/v1/trials/{id}/why``: what each layer's choices save and lose, against the float network or another trial."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from service.api.dependencies import ServicesOf, find_compared
from service.api.why_schemas import LayerReasonRead, WhyRead
from service.explaining import explain
from service.fronts import target_of

router = APIRouter(prefix="/v1/trials", tags=["trials"])


@router.get("/{trial_id}/why")
def read_why(
    services: ServicesOf,
    trial_id: str,
    device: Annotated[str | None, Query(max_length=100, description="One of the job's; the first by default")] = None,
    other: Annotated[
        str | None, Query(max_length=64, description="A trial of the same job; the float network if left out")
    ] = None,
) -> WhyRead:
    """Return for each layer what a trial saves in time, energy and bytes, and what it is predicted to lose.

    Savings add up to the difference of the two prices. Predicted losses are there where the job has measured what
    single choices do.
    """
    with services.database.read() as connection:
        job, trial, compared = find_compared(connection, trial_id, other)
    rows = explain(services, job, trial, other=compared, device=device)
    return WhyRead(
        id=trial_id,
        other=other,
        device=target_of(job, device).name,
        layers=[LayerReasonRead(**asdict(row)) for row in rows],
    )
