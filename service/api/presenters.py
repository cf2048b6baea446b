"""From rows of the store to answers."""

from collections.abc import Iterable, Mapping
from typing import Any

from hwmodels.estimate import CostReport, estimate
from hwmodels.profile import Profile
from hwmodels.workload import Workload
from service.api.schemas import (
    BlockRead,
    ChannelGroupRead,
    CostsRead,
    DatasetRead,
    EstimateRead,
    FloatPoint,
    FrontRead,
    JobRead,
    JobSummary,
    KernelRow,
    LayerRead,
    ModelRead,
    ModelSummary,
    PreprocessingRead,
    TrialRead,
)
from service.fronts import Front
from service.store.records import DatasetRecord, JobRecord, ListedJob, ModelRecord, TrialRecord
from workers.events import DeviceCosts, TrialStatus
from workers.spec import JobSpec, Limits
from workers.split import least_drop, search_signal


def model_summary(model: ModelRecord) -> ModelSummary:
    """Present a model in a list."""
    about = model.description
    names = ("input_shape", "classes", "parameters", "macs", "float_bytes")
    return ModelSummary(
        id=model.id,
        name=model.name,
        format=model.format,
        task=model.task,
        created_at=model.created_at,
        **{name: about[name] for name in names},
    )


def model_read(model: ModelRecord, profiles: Mapping[str, Profile]) -> ModelRead:
    """Present a model with its parts and its float price on every device."""
    about = model.description
    load = Workload.from_json(about["workload"])
    return ModelRead(
        **model_summary(model).model_dump(),
        preprocessing=PreprocessingRead.model_validate(dict(model.preprocessing)),
        layers=[LayerRead(**row) for row in about["layers"]],
        blocks=[BlockRead(**row) for row in about["blocks"]],
        groups=[ChannelGroupRead(name=row["name"], channels=row["channels"]) for row in about["groups"]],
        unprunable=about["unprunable"],
        baseline={name: costs_read(estimate(load, profile)) for name, profile in profiles.items()},
    )


def dataset_read(dataset: DatasetRecord) -> DatasetRead:
    """Present a data set."""
    return DatasetRead(id=dataset.id, name=dataset.name, created_at=dataset.created_at, **dataset.description)


def costs_read(report: CostReport) -> CostsRead:
    """Present the price of a network on a device."""
    return CostsRead(
        latency_ms=report.latency_ms,
        energy_mj=report.energy_mj,
        model_bytes=report.model_bytes,
        peak_memory_bytes=report.peak_memory_bytes,
        deployable=report.deployable,
        reason=report.reason,
    )


def estimate_read(report: CostReport, load: Workload, limits: Limits, violations: Mapping[str, float]) -> EstimateRead:
    """Present a price with its rows, and whether it keeps the limits if there are some."""
    limited = any(value is not None for value in (limits.latency_ms, limits.energy_mj)) or any(
        value is not None for value in (limits.model_bytes, limits.peak_memory_bytes)
    )
    return EstimateRead(
        **costs_read(report).model_dump(exclude={"violations"}),
        violations=dict(violations),
        device=report.device,
        expected_error=report.expected_error,
        fits=report.deployable and not violations if limited else None,
        macs=load.macs,
        bit_ops=load.bit_ops,
        layers=kernel_rows(report),
    )


def kernel_rows(report: CostReport) -> list[KernelRow]:
    """Present a price kernel by kernel."""
    return [
        KernelRow.model_validate({name: getattr(row, name) for name in row.__dataclass_fields__})
        for row in report.kernels
    ]


def job_summary(job: JobRecord | ListedJob, counts: Mapping[str, int]) -> JobSummary:
    """Present a job in a list."""
    return JobSummary.model_validate(_summary(job, counts))


def job_read(job: JobRecord, counts: Mapping[str, int]) -> JobRead:
    """Present a job."""
    spec = job.spec
    told = {name: spec[name] for name in ("objectives", "space", "keep", "budget", "strategy", "seed")}
    rest = {
        "requested": job.request,
        "score": JobSpec.from_json(spec).score,
        "baseline": job.baseline,
        "split": job.split,
        "variables": job.variables,
        "ranges": job.ranges,
        "resolvable_drop": job.resolvable_drop,
    }
    return JobRead.model_validate({**_summary(job, counts), **told, **rest, **_signal(job)})


def _summary(job: JobRecord | ListedJob, counts: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "status": job.status,
        "reason": job.reason,
        "model_id": job.model_id,
        "dataset_id": None if job.data_free else job.dataset_id,
        "devices": job.devices,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "progress": job.progress,
        "trial_counts": counts,
    }


def _signal(job: JobRecord) -> dict[str, Any]:
    """Return what a job's candidates are ranked by, and why, once its float network was measured."""
    accuracy, images = (None if job.baseline is None else job.baseline.get(key) for key in ("accuracy", "images"))
    if accuracy is None or images is None:
        return {}
    spec = JobSpec.from_json(job.spec)
    signal, warning = search_signal(accuracy, images, least_drop(spec), data_free=spec.data_free)
    return {"signal": signal, "warning": warning}


def trial_read(trial: TrialRecord) -> TrialRead:
    """Present a trial."""
    found = trial.evaluation or {}
    costs = found.get("costs", {})
    measured = {name: found.get(name) for name in ("accuracy", "correct", "images", "packed_bytes", "macs", "bit_ops")}
    return TrialRead.model_validate(
        {
            "id": trial.id,
            "job_id": trial.job_id,
            "number": trial.number,
            "origin": trial.origin,
            "label": trial.label,
            "status": trial.status,
            "feasible": {name: DeviceCosts(**row).feasible for name, row in costs.items()},
            **measured,
            "relaxed_images": found.get("relaxed_images", 0.0),
            "costs": costs,
            "plan": trial.plan,
            "seconds": found.get("seconds", {}),
            "error": _error(trial),
            "checkpoint": trial.checkpoint,
            "created_at": trial.created_at,
            "ended_at": trial.ended_at,
        }
    )


def trials_read(trials: Iterable[TrialRecord]) -> list[TrialRead]:
    """Present trials."""
    return [trial_read(trial) for trial in trials]


def front_read(job: JobRecord, front: Front) -> FrontRead:
    """Present a front, the float network beside it."""
    device = front.target.name
    return FrontRead(
        device=device,
        x=front.x,
        y=front.y,
        points=trials_read(row.record for row in front.points),
        baselines=trials_read(row.record for row in front.baselines),
        float=_float_point(job, device),
        hypervolume=front.hypervolume,
        reference=dict(front.reference),
        feasible_count=front.feasible,
    )


def _error(trial: TrialRecord) -> str | None:
    if trial.evaluation is not None:
        error: str | None = trial.evaluation.get("error")
        return error
    return "the job ended before the trial did" if trial.status == TrialStatus.FAILED else None


def _float_point(job: JobRecord, device: str) -> FloatPoint | None:
    if job.baseline is None or device not in job.baseline["costs"]:
        return None
    return FloatPoint.model_validate({**job.baseline, "costs": job.baseline["costs"][device]})
