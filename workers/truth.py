"""Which figures of a checkpoint are deployed, which simulated and which predicted, and why.

``deployed`` was read off the files themselves, or is what ONNX Runtime computed from them in the widths that the plan
says. ``simulated`` are values of the plan's grid in wider integers, or in floats. ``predicted`` is a cost model's word
for a device that nothing was run on.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from compress.placement import FLOAT_BITS
from compress.quantize import Compressed
from hwmodels.profile import FIGURES, Figure, Profile

CONTAINER_BITS = 8  # what ONNX Runtime multiplies on CPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a figure is, on a device or by itself, and why."""

    figure: str
    device: str | None = None
    kind: Literal["deployed", "simulated", "predicted"]
    reason: str


def truths(compressed: Compressed, profiles: Mapping[str, Profile], *, score: str = "accuracy") -> list[Truth]:
    """Return what the accuracy, the sizes of the files, and every cost on every device are.

    Args:
        compressed: The network that was packed and exported.
        profiles: The job's devices by name.
        score: What the share of right answers is called.
    """
    weights, values = _widths(compressed)
    return [
        replace(accuracy_truth(compressed), figure=score),
        Truth(figure="packed_bytes", kind="deployed", reason="length of model.safetensors"),
        Truth(figure="onnx_bytes", kind="deployed", reason="length of model.onnx"),
        *(
            Truth(figure=figure, device=name, kind="predicted", reason=_cost_reason(figure, profile, weights, values))
            for name, profile in profiles.items()
            for figure in FIGURES
        ),
    ]


def accuracy_truth(compressed: Compressed) -> Truth:
    """Return whether ONNX Runtime computed the accuracy in the plan's own widths."""
    weights, values = _widths(compressed)
    reasons = [
        *_narrow(weights, "weights", "int8"),
        *_narrow(values, "activations", "uint8" if compressed.plan.numerics.activation_type == "unsigned" else "int8"),
    ]
    in_float = sum(weight.integers(compressed.plan.numerics) is None for weight in compressed.coded.values())
    if in_float:
        reasons.append(f"{in_float} {'layer runs' if in_float == 1 else 'layers run'} in float with rounded weights")
    if reasons:
        reason = f"in ONNX Runtime {'; '.join(reasons)}: the same values in wider numbers"
        return Truth(figure="accuracy", kind="simulated", reason=reason)
    reason = "ONNX Runtime ran the file in the widths that the plan says"
    return Truth(figure="accuracy", kind="deployed", reason=reason)


def _cost_reason(figure: Figure, profile: Profile, weights: Collection[int], values: Collection[int]) -> str:
    error = profile.expected_error(figure)
    if figure == "model_bytes":
        rounded = _rounded_up(weights, profile.formats.weight_bits, "weights")
        return "; ".join(["arithmetic, in formats of its runtime", *rounded])
    if figure == "peak_memory_bytes":
        rounded = _rounded_up(values, profile.formats.activation_bits, "activations")
        return "; ".join([f"by the rules of its runtime, {error}", *rounded])
    return f"by its profile, nothing was run there: {error}"


def _widths(compressed: Compressed) -> tuple[list[int], list[int]]:
    """Return the widths of weights and of activations that occur, ascending."""
    weights = {weight.format.bits for weight in compressed.coded.values()}
    values = set()
    for node in compressed.network.graph.nodes:
        low, high = node.attributes.get("low"), node.attributes.get("high")
        if node.op == "quantize" and isinstance(low, int) and isinstance(high, int):
            values.add((high - low).bit_length())
    return sorted(weights), sorted(values)


def _narrow(widths: Collection[int], what: str, container: str) -> list[str]:
    narrow = [width for width in widths if width < CONTAINER_BITS]
    return [f"{_listed(narrow)}-bit {what} are {container}"] if narrow else []


def _rounded_up(widths: Collection[int], stored: Collection[int], what: str) -> list[str]:
    wider = {width: min((bits for bits in stored if bits >= width), default=FLOAT_BITS) for width in widths}
    return [f"{width}-bit {what} take {bits}" for width, bits in wider.items() if bits != width]


def _listed(widths: Collection[int]) -> str:
    return " and ".join(map(str, widths)) if len(widths) < 3 else f"{min(widths)} to {max(widths)}"
