"""A plan in a few words: how many bits, how many channels, which operators."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ORIGINAL = "original"
EIGHT_BIT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSummary:
    """What a plan does, averaged over the network.

    Means are weighted by the float network's weights per layer and channels per group where the model's description
    has them (the layers of a replacement then count nothing), else every layer and group counts the same.
    ``channels_kept`` is a fraction of the channels that may be cut at all. ``operators`` names the blocks that were
    replaced, with what.
    """

    weight_bits: float | None
    activation_bits: float | None
    channels_kept: float
    operators: tuple[tuple[str, str], ...]
    dimensions: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The dimensions that the plan uses, as words: ``bits + channels``; ``8 bit`` if it uses none."""
        return " + ".join(self.dimensions) or "8 bit"

    @property
    def short_kind(self) -> str:
        """``kind`` where there is little room."""
        return "all three" if len(self.dimensions) == 3 else self.kind

    @property
    def operators_text(self) -> str:
        """How many blocks were replaced with what, as words; ``none`` if all are original."""
        counts = Counter(operator for _, operator in self.operators)
        return ", ".join(f"{count} × {operator}" for operator, count in sorted(counts.items())) or "none"


def summarize(plan: Mapping[str, Any], description: Mapping[str, Any] | None = None) -> PlanSummary:
    """Return the summary of a plan (JSON of ``compress.plan.Plan``).

    Args:
        plan: The plan.
        description: The model's description, for the weights of the means.
    """
    parameters = {row["name"]: float(row["parameters"]) for row in (description or {}).get("layers", ())}
    channels = {row["name"]: float(row["channels"]) for row in _groups(description)}
    layers = plan["layers"]
    weights = {name: parameters.get(name, 1.0 if not parameters else 0.0) for name in layers}
    ratios = {**dict.fromkeys(channels, 1.0), **plan["keep_ratios"]}
    operators = tuple(
        (block, choice["operator"])
        for block, choice in sorted(plan["operators"].items())
        if choice["operator"] != ORIGINAL
    )
    used = {
        "bits": any(min(row["weight_bits"], row["activation_bits"]) < EIGHT_BIT for row in layers.values()),
        "channels": any(ratio < 1 for ratio in ratios.values()),
        "operator": bool(operators),
    }
    return PlanSummary(
        weight_bits=_mean({name: row["weight_bits"] for name, row in layers.items()}, weights),
        activation_bits=_mean({name: row["activation_bits"] for name, row in layers.items()}, dict.fromkeys(layers, 1)),
        channels_kept=_mean(ratios, {name: channels.get(name, 1.0) for name in ratios}) or 1.0,
        operators=operators,
        dimensions=tuple(name for name, applies in used.items() if applies),
    )


def _groups(description: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    groups = (description or {}).get("groups", ())
    return list(groups["groups"] if isinstance(groups, Mapping) else groups)


def _mean(values: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    total = sum(weights[name] for name in values)
    if not total:
        return None
    return sum(value * weights[name] for name, value in values.items()) / total
