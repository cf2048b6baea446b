"""What a job's page can be asked: its trials on other devices or under other limits, and why a trial is what it is."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from service.api.dependencies import ServicesOf, find_compared, find_job
from service.explaining import explain
from service.fronts import target_of
from service.pages.errors import PageRoute
from service.pages.rendering import page
from service.reranking import rerank
from workers.spec import DeviceTarget, JobSpec, Limits

router = APIRouter(include_in_schema=False, route_class=PageRoute)

Empty = BeforeValidator(lambda value: value or None)  # a form sends what was left open as an empty text
Text = Annotated[Annotated[str, Field(max_length=100)] | None, Empty, Query()]
Bound = Annotated[Annotated[float, Field(gt=0)] | None, Empty, Query()]
Bytes = Annotated[Annotated[int, Field(gt=0)] | None, Empty, Query()]
Share = Annotated[Annotated[float, Field(ge=0, le=1)] | None, Empty, Query()]


@router.get("/jobs/{job_id}/parts/rerank")
def rerank_part(
    services: ServicesOf,
    job_id: str,
    device: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006  FastAPI copies it
    x: Text = None,
    latency_ms: Bound = None,
    energy_mj: Bound = None,
    model_bytes: Bytes = None,
    peak_memory_bytes: Bytes = None,
    accuracy_drop: Share = None,
) -> Response:
    """Return the fronts of a job's trials on devices, by default its own, under limits."""
    with services.database.read() as connection:
        job = find_job(connection, job_id)
    limits = Limits(
        latency_ms=latency_ms,
        energy_mj=energy_mj,
        model_bytes=model_bytes,
        peak_memory_bytes=peak_memory_bytes,
        accuracy_drop=accuracy_drop,
    )
    names = device or [target.name for target in JobSpec.from_json(job.spec).devices]
    fronts = rerank(services, job, [DeviceTarget(name=name, limits=limits) for name in names], x=x)
    return page("job_rerank.html", job_id=job.id, fronts=fronts, limits=limits)


@router.get("/trials/{trial_id}/parts/why")
def why_part(services: ServicesOf, trial_id: str, device: Text = None, other: Text = None) -> Response:
    """Return what each layer of a trial saves and loses, against another trial or the float network."""
    with services.database.read() as connection:
        job, trial, compared = find_compared(connection, trial_id, other)
    rows = explain(services, job, trial, other=compared, device=device)
    return page(
        "trial_why.html",
        trial=trial,
        other=compared,
        device=target_of(job, device).name,
        rows=rows,
    )
