"""Prices of stored networks, without a job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwmodels.estimate import CostReport, estimate
from hwmodels.workload import Workload
from service.graphs import graph_on_disk
from service.services import Services
from service.store.records import ModelRecord
from service.submission import fit_check as check_fit
from service.uploads import find_model
from workers.spec import COST_OBJECTIVES, DeviceTarget, JobSpec, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedDevice:
    """A price on one device, and by what share it breaks each limit."""

    report: CostReport
    violations: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """Prices on several devices. ``ranges`` is what a search could reach, if that was asked for."""

    workload: Workload
    rows: tuple[PricedDevice, ...]
    ranges: dict[str, Any] | None


def price(
    services: Services,
    model_id: str,
    *,
    devices: Sequence[str],
    limits: Limits,
    plan: Mapping[str, Any] | None,
    fit_check: bool,
) -> Priced:
    """Price a network, or a plan of it, on devices.

    Raises:
        NotFoundError: The model or a device is not known.
        InputError: The plan does not fit the network.
    """
    model = find_model(services, model_id, field="model_id")
    profiles = services.chosen_profiles({name: f"devices.{number}" for number, name in enumerate(devices)})
    load = Workload.from_json(model.description["workload"]) if plan is None else workload_of(services, model, plan)
    ranges = None
    if fit_check:
        spec = JobSpec(name="fit check", devices=tuple(DeviceTarget(name=name, limits=limits) for name in devices))
        ranges = check_fit(services, spec, model, profiles, refuse=False)
    rows = []
    for name in devices:
        report = estimate(load, profiles[name])
        rows.append(PricedDevice(report=report, violations=_violations(report, limits)))
    return Priced(workload=load, rows=tuple(rows), ranges=ranges)


def workload_of(services: Services, model: ModelRecord, plan: Mapping[str, Any]) -> Workload:
    """Return the workload of a stored network under a plan."""
    with graph_on_disk(services, model) as path:
        parameters = {"graph": str(path), "tensors": model.description["tensors"], "plan": dict(plan)}
        with services.ingest.run("workload", parameters) as reply:
            return Workload.from_json(reply.result["workload"])


def _violations(report: CostReport, limits: Limits) -> dict[str, float]:
    bounds = {name: getattr(limits, name) for name in COST_OBJECTIVES}
    excess = {name: getattr(report, name) / bound - 1 for name, bound in bounds.items() if bound is not None}
    return {name: share for name, share in excess.items() if share > 0}
