"""Prices of many plans of a stored network."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from compress.network.graph import Graph, Network
from compress.plan import Plan
from compress.structure import analyse
from hwmodels.profile import load_profile
from workers.pricing import Pricing
from workers.spec import COST_OBJECTIVES, DeviceTarget


def plan_prices(parameters: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Return by device, for each of ``plans``, its costs, whether it runs there as it is, and if not, why."""
    graph = Graph.from_json(json.loads(Path(parameters["graph"]).read_bytes()))
    tensors = {name: torch.empty(tuple(shape), device="meta") for name, shape in parameters["tensors"].items()}
    network = Network(graph=graph, tensors=tensors)
    profiles = {name: load_profile(profile) for name, profile in parameters["profiles"].items()}
    pricing = Pricing(network, analyse(network), [DeviceTarget(name=name) for name in profiles], profiles)
    rows: dict[str, list[list[Any]]] = {name: [] for name in profiles}
    for data in parameters["plans"]:
        plan = Plan.from_json({**Plan().to_json(), **data})
        for name, found in rows.items():
            costs = pricing.costs(plan, name)
            found.append([*(getattr(costs, cost) for cost in COST_OBJECTIVES), costs.deployable, costs.reason])
    return {"prices": rows}
