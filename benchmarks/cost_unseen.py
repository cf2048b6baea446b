"""CPU networks that no board showed the fit: neither the board in question nor those that the prior comes from."""

from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.cost_data import Group, Networks, measured_groups
from benchmarks.cost_sections import HEADER, board, line, priors, runtime_kind
from benchmarks.generic_profiles import generic_cpu
from hwmodels.calibrate import Design, Measurement, Prior, fit_knobs, knobs_of
from hwmodels.validation import summarise
from hwmodels.workload import Arithmetic

NETWORKS = 10  # those that most groups have; a prior is learnt again for each
AT_LEAST = 6


def unseen_networks(folder: Path) -> dict[str, Any]:
    """Return errors by network when all of its rows, on every board, are left out of everything.

    Of the float groups of one thread only, which are the most and the ones that other sections find easiest.
    """
    groups = {
        group: found
        for group, found in measured_groups(folder, Networks(folder), engines=("cpu",)).items()
        if group.dtype != "int8" and group.threads == "1" and len(found) >= AT_LEAST
    }
    profile = generic_cpu("generic")
    designs = {group: [Design(profile, [m.workload]) for m in found] for group, found in groups.items()}
    start = Prior(knobs_of(profile, Arithmetic.FLOAT))
    common = Counter(m.network for found in groups.values() for m in found).most_common(NETWORKS)
    by_group: dict[Group, list[tuple[float, float]]] = defaultdict(list)
    lines = [HEADER]
    for network, _ in common:
        known = priors(groups, designs, start, kind=runtime_kind, without_network=network)
        pairs = []
        for group, found in groups.items():
            if any(m.network == network for m in found):
                pair = _predicted(found, designs[group], network, known[runtime_kind(group), board(group)])
                pairs.append(pair)
                by_group[group].append(pair)
        lines.append(line(network, summarise(*zip(*pairs, strict=True))))
    errors = {str(group): summarise(*zip(*pairs, strict=True)) for group, pairs in by_group.items()}
    lines += [line(name, found) for name, found in errors.items()]
    typical = median(found.mape_percent for found in errors.values())
    lines.append(f"{len(errors)} float groups of one thread: median MAPE {typical:.1f} % on networks unseen everywhere")
    return {"lines": lines, "targets": [], "groups": {name: found.to_json() for name, found in errors.items()}}


def _predicted(found: list[Measurement], designs: list[Design], network: str, prior: Prior) -> tuple[float, float]:
    seen = [index for index, m in enumerate(found) if m.network != network]
    (unseen,) = [index for index, m in enumerate(found) if m.network == network]
    latency_ms = np.array([found[index].latency_ms for index in seen])
    knobs = fit_knobs(Design.join([designs[index] for index in seen]), latency_ms, prior)
    return float(designs[unseen].latency_us(knobs)[0]) / 1e3, found[unseen].latency_ms
