"""``/v1/jobs/{id}/rerank``: the trials of a job on other devices or under other limits."""

from dataclasses import asdict

from fastapi import APIRouter

from service.api.dependencies import ServicesOf, find_job
from service.api.rerank_schemas import RerankBody, RerankedFrontRead, RerankedTrial, RerankRead
from service.api.schemas import CostsRead
from service.reranking import PricedTrial, RerankedFront
from service.reranking import rerank as reranked
from service.store.identifiers import trial_id

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/{job_id}/rerank")
def rerank(services: ServicesOf, job_id: str, body: RerankBody) -> RerankRead:
    """Price all measured trials of a job on devices and return the front of each; nothing is searched or measured.

    Without ``limits`` there are none: those of the job do not carry over.
    """
    with services.database.read() as connection:
        job = find_job(connection, job_id)
    fronts = reranked(services, job, body.to_targets(), x=body.x)
    return RerankRead(job_id=job.id, fronts=[_front(job.id, front) for front in fronts])


def _front(job_id: str, front: RerankedFront) -> RerankedFrontRead:
    return RerankedFrontRead(
        device=front.target.name,
        x=front.x,
        points=[_trial(job_id, row) for row in front.points],
        best=None if front.best is None else _trial(job_id, front.best),
        trial_count=front.trials,
        feasible_count=front.feasible,
        refusals=dict(front.refusals),
        hypervolume=front.hypervolume,
        reference=dict(front.reference),
    )


def _trial(job_id: str, row: PricedTrial) -> RerankedTrial:
    trial = row.trial
    return RerankedTrial(
        id=trial_id(job_id, trial.number),
        number=trial.number,
        label=trial.label,
        accuracy=trial.accuracy,
        packed_bytes=trial.packed_bytes,
        verified=trial.verified,
        costs=CostsRead(**asdict(row.costs)),
    )
