"""Prices of many plans of a stored network."""

import gc
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic_core import from_json  # takes half the time of the standard library's

from compress.network.graph import Graph, Network
from compress.plan import Plan
from compress.structure import Structure, analyse
from hwmodels.alternatives import Alternatives
from hwmodels.errors import InputError
from hwmodels.many import Many
from hwmodels.profile import Profile, load_profile
from workers.families import FamilyOfPlans
from workers.pricing import Pricing
from workers.spec import COST_OBJECTIVES, DeviceTarget

FEW = 64
"""So many plans are estimated one by one: to lay them out takes longer."""

CHECKED = 8
"""So many of the plans that were priced together are estimated one by one, too; each must cost the same."""

TOLERANCE = 1e-9  # relative; sums in another order

Row = tuple[float, float, int, int, bool, str | None]


def plan_prices(parameters: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Return by device, for each of ``plans``, its costs, whether it runs there as it is, and if not, why.

    ``plans`` names a file with a plan as JSON in each line.
    """
    graph = Graph.from_json(json.loads(Path(parameters["graph"]).read_bytes()))
    tensors = {name: torch.empty(tuple(shape), device="meta") for name, shape in parameters["tensors"].items()}
    network = Network(graph=graph, tensors=tensors)
    profiles = {name: load_profile(profile) for name, profile in parameters["profiles"].items()}
    defaults = Plan().to_json()
    gc.disable()  # millions of objects, none of them garbage: looking for it takes a third longer
    try:
        plans = [{**defaults, **from_json(line)} for line in Path(parameters["plans"]).read_bytes().splitlines()]
    finally:
        gc.enable()
    together = parameters.get("together", True)
    return {"prices": prices_of(network, analyse(network), plans, profiles, together=together)}


def prices_of(
    network: Network,
    structure: Structure,
    plans: Sequence[Mapping[str, Any]],
    profiles: Mapping[str, Profile],
    *,
    together: bool = True,
) -> dict[str, list[Row]]:
    """Return the prices of plans (as JSON) on every device, in the order of ``Row``.

    Many plans are priced together, which takes a hundredth of the time; a device on which that would not be exact
    gets the full estimate of every plan.
    """
    pricing = Pricing(network, structure, [DeviceTarget(name=name) for name in profiles], profiles)

    def estimated(number: int, device: str) -> Row:
        costs = pricing.costs(Plan.from_json(plans[number]), device)
        latency, energy, size, peak = (getattr(costs, name) for name in COST_OBJECTIVES)
        return latency, energy, size, peak, costs.deployable, costs.reason

    layout = _layout(network, structure, plans) if together and len(plans) > FEW else None
    found: dict[str, list[Row]] = {}
    for device, profile in profiles.items():
        rows = None if layout is None else _together(layout, profile)
        checked = range(0, len(plans), max(1, len(plans) // CHECKED))
        if rows is None or not all(_same(rows[number], estimated(number, device)) for number in checked):
            rows = [estimated(number, device) for number in range(len(plans))]
        found[device] = rows
    return found


def _layout(network: Network, structure: Structure, plans: Sequence[Mapping[str, Any]]) -> Alternatives | None:
    try:
        made = FamilyOfPlans(network, structure, plans)
        family = made.family()
        return Alternatives(family, made.plans(sorted(family.layers)))
    except InputError:
        return None


def _together(layout: Alternatives, profile: Profile) -> list[Row] | None:
    try:
        prices = Many(layout, profile).prices()
    except InputError:
        return None
    return list(
        zip(
            prices.latency_ms.tolist(),
            prices.energy_mj.tolist(),
            prices.model_bytes.tolist(),
            prices.peak_memory_bytes.tolist(),
            [reason is None for reason in prices.reasons],
            prices.reasons,
            strict=True,
        )
    )


def _same(one: Row, other: Row) -> bool:
    close = all(math.isclose(here, there, rel_tol=TOLERANCE) for here, there in zip(one[:2], other[:2], strict=True))
    return close and one[2:] == other[2:]
