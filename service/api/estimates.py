"""``/v1/estimates``: prices without a job."""

from fastapi import APIRouter

from service.api.dependencies import ServicesOf
from service.api.job_schemas import EstimateCreate
from service.api.presenters import estimate_read
from service.api.schemas import EstimatesRead
from service.estimates import price

router = APIRouter(prefix="/v1/estimates", tags=["estimates"])


@router.post("")
def estimate_model(services: ServicesOf, body: EstimateCreate) -> EstimatesRead:
    """Price a network on devices, kernel by kernel: as it is, or under a plan; with limits, say whether they hold."""
    priced = price(
        services,
        body.model_id,
        devices=body.devices,
        limits=body.limits.to_limits(),
        plan=body.plan,
        fit_check=body.fit_check,
    )
    return EstimatesRead(
        model_id=body.model_id,
        estimates=[
            estimate_read(row.report, priced.workload, body.limits.to_limits(), row.violations) for row in priced.rows
        ],
        ranges=priced.ranges,
    )
