"""Make a profile of somebody's own device: a shipped profile fitted to their measurements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hwmodels.calibrate import Calibration, Measurement, Prior, calibrate, knobs_of
from hwmodels.errors import InputError
from hwmodels.profile import Profile, load_profile
from hwmodels.validation import ErrorSummary
from hwmodels.workload import Arithmetic

LEAST_NETWORKS = 3
METHOD = "one left out of the fit at a time, mean absolute error"


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedPart:
    """What the fit to measurements of one arithmetic came to; ``fit`` is ``None`` where they were too few."""

    applies_to: str  # "float" or "integer"
    measurements: int
    fit: Calibration | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnDevice:
    """A fitted profile, and how it was come to."""

    profile: Profile
    parts: tuple[FittedPart, ...]


def fit_own_device(
    base: Profile, measurements: Sequence[Measurement], *, name: str, title: str = "", source: str
) -> OwnDevice:
    """Return ``base`` under a name of its own, fitted to measurements.

    Float networks are fitted first; they say what memory and launches cost. Integer ones then move their own
    efficiencies alone, unless there are no float ones. Fewer than ``LEAST_NETWORKS`` of a kind leave that kind alone.

    Raises:
        InputError: The profile's family cannot be fitted, or no kind has enough networks.
    """
    data = {**base.to_json(), "name": name, "validation": []}
    data["title"] = title or f"{base.title}, fitted to own measurements"[:200]
    profile = load_profile(data)
    by_kind = {
        "float": [m for m in measurements if _arithmetics(m) == {Arithmetic.FLOAT}],
        "integer": [m for m in measurements if _arithmetics(m) == {Arithmetic.INTEGER}],
    }
    _refuse_mixed(measurements, by_kind["float"] + by_kind["integer"])
    parts: list[FittedPart] = []
    for kind, found in by_kind.items():
        if not found:
            continue
        if len({m.network for m in found}) < LEAST_NETWORKS:
            parts.append(FittedPart(applies_to=kind, measurements=len(found), fit=None))
            continue
        prior = None
        if kind == "integer" and any(part.fit for part in parts):
            prior = Prior(knobs_of(profile, Arithmetic.INTEGER), costs_fixed=True)
        fit = calibrate(profile, found, source=source, prior=prior)
        profile = _validated(fit.profile, kind, fit.left_out, source)
        parts.append(FittedPart(applies_to=kind, measurements=len(found), fit=fit))
    if not any(part.fit for part in parts):
        counts = ", ".join(f"{len(found)} {kind}" for kind, found in by_kind.items())
        raise InputError("measurements", f"must have at least {LEAST_NETWORKS} networks of one kind", counts)
    return OwnDevice(profile=profile, parts=tuple(parts))


def _arithmetics(measurement: Measurement) -> set[Arithmetic]:
    """Return what multiplies in a network; a kernel without MACs counts where there is nothing else."""
    kernels = measurement.workload.kernels
    return {k.arithmetic for k in kernels if k.macs} or {k.arithmetic for k in kernels}


def _refuse_mixed(measurements: Sequence[Measurement], kept: Sequence[Measurement]) -> None:
    known = {id(measurement) for measurement in kept}
    for measurement in measurements:
        if id(measurement) not in known:
            kinds = ", ".join(sorted(_arithmetics(measurement)))
            raise InputError(f"measurements.{measurement.network}", "must be all float or all integer", kinds)


def _validated(profile: Profile, kind: str, errors: ErrorSummary, source: str) -> Profile:
    entry: dict[str, Any] = {
        "figure": "latency_ms",
        "mape_percent": round(errors.mape_percent, 1),
        "within_10_percent": round(errors.within_10_percent, 1),
        "networks": errors.count,
        "applies_to": kind,
        "method": METHOD,
        "source": source,
    }
    if errors.spearman is not None:
        entry["spearman"] = round(errors.spearman, 3)
    data = profile.to_json()
    data["validation"] = [*data.get("validation", []), entry]
    return load_profile(data)
