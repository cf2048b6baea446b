"""Why a trial costs and loses what it does: layer by layer, against the float network or another trial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwmodels.estimate import CostReport, estimate
from hwmodels.profile import load_profile
from hwmodels.workload import Workload
from search.laws import all_losses
from service.estimates import workload_of
from service.fronts import target_of
from service.plan_summary import ORIGINAL
from service.services import Services
from service.store.records import JobRecord, ModelRecord, TrialRecord
from service.store.sensitivities import Sensitivities
from service.uploads import find_model
from workers.events import ChoiceEffect

WHOLE = "whole network"
"""The row of what belongs to no layer: starting the network, moving values between layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReason:
    """What a layer's choices save, and what they are predicted to lose.

    ``choices`` are the trial's and ``instead_of`` the other one's, in words, where they differ. Savings are those of
    all kernels that stand in the layer's place; negative ones are costs. ``predicted_loss`` is in nats, the sum of what
    each choice alone was measured to lose (or follows from such measurements), less the same of the other trial;
    ``None`` where a choice was not measured.
    """

    layer: str
    choices: Mapping[str, str]
    instead_of: Mapping[str, str]
    saved_latency_ms: float
    saved_energy_mj: float
    saved_bytes: int
    predicted_loss: float | None


def explain(
    services: Services,
    job: JobRecord,
    trial: TrialRecord,
    *,
    other: TrialRecord | None = None,
    device: str | None = None,
) -> list[LayerReason]:
    """Return for every layer what a trial saves against another one, by default the float network.

    Savings add up to the difference of the two prices; layers without a difference are left out.

    Raises:
        UnknownNameError: The device is none of the job's.
    """
    target = target_of(job, device)
    profile = load_profile(job.profiles[target.name])
    model = find_model(services, job.model_id)
    with services.database.read() as connection:
        effects = Sensitivities(connection).of(job)
    report = estimate(workload_of(services, model, trial.plan), profile)
    if other is None:
        before = estimate(Workload.from_json(model.description["workload"]), profile)
    else:
        before = estimate(workload_of(services, model, other.plan), profile)
    return reasons(report, before, trial.plan, {} if other is None else other.plan, model, effects, job.variables or {})


def reasons(
    report: CostReport,
    before: CostReport,
    plan: Mapping[str, Any],
    other: Mapping[str, Any],
    model: ModelRecord,
    effects: Sequence[ChoiceEffect],
    variables: Mapping[str, Sequence[Any]],
) -> list[LayerReason]:
    """Return what ``explain`` says, from two prices and what is known of single choices."""
    layers = [row["name"] for row in model.description["layers"]]
    blocks = {name: row["name"] for row in model.description["blocks"] for name in row["nodes"]}
    saved = {name: [0.0, 0.0, 0.0] for name in (*layers, WHOLE)}
    for sign, priced in ((1, before), (-1, report)):
        for kernel in priced.kernels:
            row = saved[_layer_of(kernel.name, layers)]
            for place, value in enumerate((kernel.latency_ms, kernel.energy_mj, kernel.weight_bytes)):
                row[place] += sign * value
    saved[WHOLE] = [
        saved[WHOLE][place] + total - sum(row[place] for row in saved.values())
        for place, total in enumerate(_difference(before, report))
    ]
    losses = _losses(effects, variables)
    leaders = _leaders(layers, blocks)
    found = []
    for name in (*layers, WHOLE):
        here, there = (_choices(name, blocks, leaders, of) for of in (plan, other))
        differing = [key for key in {**here, **there} if here.get(key) != there.get(key)]
        if differing or any(abs(value) > 1e-12 for value in saved[name]):
            latency, energy, size = saved[name]
            found.append(
                LayerReason(
                    layer=name,
                    choices={key: here[key] for key in differing if key in here},
                    instead_of={key: there[key] for key in differing if key in there},
                    saved_latency_ms=latency,
                    saved_energy_mj=energy,
                    saved_bytes=round(size),
                    predicted_loss=_predicted(name, blocks, differing, here, there, losses),
                )
            )
    return found


def _difference(before: CostReport, report: CostReport) -> tuple[float, float, float]:
    return (
        before.latency_ms - report.latency_ms,
        before.energy_mj - report.energy_mj,
        float(before.model_bytes - report.model_bytes),
    )


def _layer_of(kernel: str, layers: Sequence[str]) -> str:
    """Return the layer in whose place a kernel stands; a replacement's kernels are named ``<layer>/<role>``."""
    return max((name for name in layers if kernel == name or kernel.startswith(f"{name}/")), key=len, default=WHOLE)


def _leaders(layers: Sequence[str], blocks: Mapping[str, str]) -> set[str]:
    """Return the first layer of every block: what is chosen for a block stands there."""
    first: dict[str, str] = {}
    for name in layers:
        if name in blocks:
            first.setdefault(blocks[name], name)
    return set(first.values())


def _choices(layer: str, blocks: Mapping[str, str], leaders: set[str], plan: Mapping[str, Any]) -> dict[str, str]:
    """Return what a plan chooses for a layer, by kind of variable."""
    found: dict[str, str] = {}
    bits = plan.get("layers", {}).get(layer)
    if bits is not None:
        found |= {"weights": str(bits["weight_bits"]), "activations": str(bits["activation_bits"])}
    ratio = plan.get("keep_ratios", {}).get(layer)  # a channel group is named after its first layer
    if ratio is not None:
        found["channels"] = str(ratio)
    operator = plan.get("operators", {}).get(blocks.get(layer, ""))
    if operator is not None and operator["operator"] != ORIGINAL and layer in leaders:
        found["operator"] = operator["operator"]
    return found


def _losses(effects: Sequence[ChoiceEffect], variables: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, float]]:
    """Return by variable what each choice loses, measured or by the law of its kind."""
    base = next((row.divergence for row in effects if not row.variable), 0.0)
    measured: dict[str, dict[Any, float]] = {}
    for row in effects:
        measured.setdefault(row.variable, {})[row.choice] = max(0.0, row.divergence - base)
    found: dict[str, dict[str, float]] = {}
    for name, choices in variables.items():
        rows = {choices.index(choice): loss for choice, loss in measured.get(name, {}).items() if choice in choices}
        kind = name.split(" ")[0]
        if 0 in rows and kind in ("weights", "activations", "channels"):
            losses = all_losses(kind, tuple(choices), rows)
            found[name] = {str(choice): loss for choice, loss in zip(choices, losses, strict=True)}
        else:
            found[name] = {str(choices[place]): loss for place, loss in {len(choices) - 1: 0.0, **rows}.items()}
    return found


def _predicted(
    layer: str,
    blocks: Mapping[str, str],
    differing: Sequence[str],
    here: Mapping[str, str],
    there: Mapping[str, str],
    losses: Mapping[str, Mapping[str, float]],
) -> float | None:
    total = 0.0
    for kind in differing:
        known = losses.get(f"{kind} {blocks.get(layer, '') if kind == 'operator' else layer}")
        if known is None:
            continue  # no variable of the job: every trial has the same choice
        # What a plan does not mention is left as it is, which loses nothing.
        values = [known.get(plan[kind]) if kind in plan else 0.0 for plan in (here, there)]
        if values[0] is None or values[1] is None:
            return None
        total += values[0] - values[1]
    return total if differing else 0.0
