"""One trial on one device: its figures, what its checkpoint's verification said, and its layers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service import display
from service.api.schemas import JobRead, KernelRow, TrialDetail
from service.pages.views import TrialRow, float_point, trial_rows
from workers.spec import COST_OBJECTIVES

FIGURES = (*COST_OBJECTIVES, "packed_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of a trial: how many times smaller than the float network's, and whether it breaks its limit."""

    name: str
    value: float | None
    ratio: float | None
    over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One sentence of a checkpoint's verification."""

    good: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """A kernel of the compressed network. Bits stand only where there are weights; the operator is the block's."""

    name: str
    weight_bits: int | None
    activation_bits: int | None
    keep_ratio: float | None
    operator: str
    latency_ms: float
    energy_mj: float
    weight_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What the page says of a chosen trial."""

    row: TrialRow
    figures: Sequence[Figure]
    drop: float | None
    checks: Sequence[Check]
    no_checkpoint: str
    layers: Sequence[LayerRow]


def panel(job: JobRead, trial: TrialDetail, *, device: str, description: Mapping[str, Any]) -> Panel | None:
    """Return what to say of a trial on a device; ``None`` if nothing is known of it there yet."""
    rows = trial_rows(job, [trial], device=device, description=description)
    if not rows:
        return None
    row = rows[0]
    accuracy = None if job.baseline is None else job.baseline.accuracy
    return Panel(
        row=row,
        figures=_figures(job, row, device),
        drop=None if accuracy is None or trial.accuracy is None else trial.accuracy - accuracy,
        checks=list(_checks(trial)),
        no_checkpoint=_no_checkpoint(job, row),
        layers=[_layer(kernel, trial.plan, description) for kernel in trial.layers.get(device, ())],
    )


def _figures(job: JobRead, row: TrialRow, device: str) -> list[Figure]:
    point = float_point(job, device)
    float_values = {} if point is None else {**point.costs.model_dump(), "packed_bytes": point.packed_bytes}
    found = []
    for name in FIGURES:
        value, before = row.value(name), float_values.get(name)
        ratio = before / value if value and before else None
        found.append(Figure(name=name, value=value, ratio=ratio, over=name in row.violations))
    return found


def _checks(trial: TrialDetail) -> Iterator[Check]:
    if trial.checkpoint is None:
        return
    verification: Mapping[str, Any] = trial.checkpoint.verification
    failures = verification.get("failures") or []
    if trial.checkpoint.verified:
        yield Check(good=True, text="reloaded from its file and measured again: verified")
    for failure in failures:
        yield Check(good=False, text=str(failure))
    images = verification.get("images")
    for key, reader in (("torch_correct", "the packed file"), ("onnx_correct", "the ONNX file in ONNX Runtime")):
        if key in verification and images:
            right = verification[key]
            yield Check(
                good=True,
                text=f"{reader} gets {right} of {images} search images right ({display.accuracy(right / images)}); "
                f"the trial got {verification['trial_correct']}",
            )
    test = verification.get("test")
    if test:
        low, high = (display.points(-edge) for edge in reversed(test["drop_interval"]))
        yield Check(
            good=True,
            text=f"on {test['images']} test images that nothing was chosen by: "
            f"{display.accuracy(test['correct'] / test['images'])}, float network "
            f"{display.accuracy(test['float_correct'] / test['images'])}; difference between {low} and {high} (95 %)",
        )
    for row in verification.get("figures", ()):
        place = f" on {row['device']}" if row["device"] else ""
        yield Check(good=True, text=f"{row['figure']}{place}, {row['kind']}: {row['reason']}")
    if tuned := verification.get("fine_tuned"):
        yield Check(good=not tuned["failures"], text=_fine_tuned(tuned))


def _fine_tuned(tuned: Mapping[str, Any]) -> str:
    if tuned["failures"]:
        return f"fine-tuned: not verified: {'; '.join(tuned['failures'])}"
    settings, test = tuned["settings"], tuned["test"]
    right = display.accuracy(test["correct"] / test["images"])
    return f"fine-tuned ({settings['method']}, {settings['epochs']} epochs): {right} on the test images"


def _no_checkpoint(job: JobRead, row: TrialRow) -> str:
    if row.read.accuracy is None:
        return "No checkpoint: the trial was never measured."
    if not row.feasible:
        return "No checkpoint: the trial breaks a limit of this device."
    if job.ended_at is None:
        return (
            "Not packed yet: the best trials of each front are packed, reloaded and measured when the search has ended."
        )
    return "No checkpoint: only the best trials of each device's front are packed."


def _layer(kernel: KernelRow, plan: Mapping[str, Any], description: Mapping[str, Any]) -> LayerRow:
    bits = plan["layers"].get(kernel.name)
    operator = _operator(kernel.name, plan, description)
    weighted = bits is not None or kernel.weight_bytes > 0
    return LayerRow(
        name=kernel.name,
        weight_bits=bits["weight_bits"] if bits else None,
        activation_bits=bits["activation_bits"] if bits else None,
        keep_ratio=_keep_ratio(kernel.name, plan, description) if weighted else None,
        operator=operator,
        latency_ms=kernel.latency_ms,
        energy_mj=kernel.energy_mj,
        weight_bytes=kernel.weight_bytes,
    )


def _operator(kernel: str, plan: Mapping[str, Any], description: Mapping[str, Any]) -> str:
    """Return what stands where the kernel's layer was; kernels of a replacement are called ``<layer>/<role>``."""
    layer = kernel.rpartition("/")[0] or kernel
    for block in description["blocks"]:
        if layer == block["name"] or layer in block["nodes"]:
            choice = plan["operators"].get(block["name"])
            return "original" if choice is None else str(choice["operator"])
    return ""


def _keep_ratio(layer: str, plan: Mapping[str, Any], description: Mapping[str, Any]) -> float | None:
    for group in description["groups"]:
        if layer in group["layers"]:
            return float(plan["keep_ratios"].get(group["name"], 1.0))
    return 1.0 if layer in plan["layers"] else None
