"""Tables of what the service answered; units stand in the headers or beside the figures."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service import display
from service.api.schemas import (
    CostsRead,
    DeviceSummary,
    EstimateRead,
    EstimatesRead,
    FrontRead,
    JobSummary,
    ModelRead,
    RoofRead,
    TrialRead,
    ValidationRead,
)
from service.cli.output import table
from service.device_facts import facts
from service.plan_summary import summarize

STATUS_STYLES = {"done": "green", "failed": "red", "cancelled": "yellow", "paused": "yellow", "queued": "dim"}


def status_text(status: str) -> Text:
    """Return a status in its colour."""
    return Text(status, style=STATUS_STYLES.get(status, "cyan"))


def jobs_table(jobs: Iterable[JobSummary]) -> Table:
    """Return jobs, one a row."""
    result = table("", "Id", "Name", "Status", "Devices", ">Trials", ">Time left", "Submitted")
    for job in jobs:
        progress = job.progress
        done = "–" if progress is None else f"{progress.done}" + (f" of {progress.total}" if progress.total else "")
        left = "–" if progress is None or job.ended_at else display.duration(progress.seconds_left)
        devices = ", ".join(device.name for device in job.devices)
        result.add_row(job.id, job.name, status_text(job.status), devices, done, left, display.moment(job.created_at))
    return result


def devices_table(devices: Iterable[DeviceSummary]) -> Table:
    """Return device profiles, one a row."""
    result = table("", "Name", "Device", "Profile")
    for device in devices:
        result.add_row(device.name, device.title, "custom" if device.custom else "built in")
    return result


def facts_table(profile: Mapping[str, Any]) -> Table:
    """Return every fact of a profile with its unit (in its name), confidence and source."""
    result = table("", "Fact", "Value", "Confidence", "Source")
    for fact in facts(profile):
        result.add_row(fact.name, fact.value, fact.confidence, fact.source)
    return result


def roofs_table(roofs: Iterable[RoofRead]) -> Table:
    """Return peak rates, bandwidth and where memory stops to be the limit, one arithmetic a row."""
    result = table("Roofline", "Arithmetic", ">Peak (GMAC/s)", ">Memory (GB/s)", ">Ridge (MAC/byte)")
    for roof in roofs:
        figures = (roof.peak_gmac_per_s, roof.gb_per_s, roof.ridge_macs_per_byte)
        result.add_row(roof.label, *(f"{value:g}" for value in figures))
    return result


def validation_table(rows: Iterable[ValidationRead]) -> Table:
    """Return how far each figure's prices were from measurements."""
    headers = ("Figure", "Networks", "Expected error", ">±10 % (%)", ">Spearman", "Measured on")
    result = table("Validation", *headers)
    for row in rows:
        within = display.ABSENT if row.within_10_percent is None else f"{row.within_10_percent:g}"
        rank = display.ABSENT if row.spearman is None else f"{row.spearman:.3f}"
        result.add_row(row.figure, row.networks_of, row.expected_error, within, rank, row.source or display.ABSENT)
    return result


def front_table(
    front: FrontRead, model: ModelRead | None = None, *, title: str = "", least_accuracy: float = 0.0
) -> Table:
    """Return the front of one device, most accurate first, then the uniform baselines and the float network.

    What is below ``least_accuracy`` is counted, not listed.
    """
    result = table(
        title,
        "Trial",
        ">Accuracy (%)",
        ">Latency (ms)",
        ">Energy (mJ)",
        ">Model (bytes)",
        ">Packed (bytes)",
        ">Bits",
        ">Channels (%)",
        "Limits",
        "Replaced",
    )
    description = None if model is None else model.model_dump(mode="json")
    shown = [trial for trial in reversed(front.points) if (trial.accuracy or 0.0) >= least_accuracy]
    for trial in shown:
        _add_trial(result, trial, front.device, description, style="")
    if hidden := len(front.points) - len(shown):
        result.add_row(f"{hidden} more", f"< {least_accuracy * 100:.2f}", style="dim")
    result.add_section()
    for trial in front.baselines:
        _add_trial(result, trial, front.device, description, style="dim")
    if front.float_ is not None:
        point = front.float_
        result.add_row(
            "float network",
            *_figures(point.accuracy, point.costs, point.packed_bytes),
            "32",
            "100",
            "",
            "none",
            style="dim",
        )
    return result


def estimates_table(estimates: EstimatesRead, *, title: str = "", errors: bool = True) -> RenderableType:
    """Return prices, one device a row, and below how far to trust each latency."""
    limited = any(row.fits is not None for row in estimates.estimates)
    headers = ["Device", ">Latency (ms)", ">Energy (mJ)", ">Model (bytes)", ">Peak memory (bytes)", ">MACs"]
    result = table(title, *headers, *(["Limits"] if limited else []), "Runs there")
    for row in estimates.estimates:
        limits = ["kept" if row.fits else ", ".join(row.violations) + " broken"] if limited else []
        result.add_row(
            row.device,
            display.amount(row.latency_ms),
            display.amount(row.energy_mj),
            f"{row.model_bytes:,}",
            f"{row.peak_memory_bytes:,}",
            f"{row.macs:,}",
            *limits,
            "yes" if row.deployable else f"no: {row.reason}",
        )
    if not errors:
        return result
    notes = [
        Text(f"error of the latency on {row.device}: {_expected_error(row)}", style="dim")
        for row in estimates.estimates
    ]
    return Group(result, *notes)


def kernels_table(estimate: EstimateRead) -> Table:
    """Return what each kernel costs on one device."""
    result = table(
        estimate.device, "Kernel", "Kind", ">Latency (ms)", ">Energy (mJ)", ">Weights (bytes)", ">MACs", "Bound by"
    )
    for row in estimate.layers:
        result.add_row(
            row.name,
            row.kind,
            display.amount(row.latency_ms),
            display.amount(row.energy_mj),
            f"{row.weight_bytes:,}",
            f"{row.macs:,}",
            row.bound,
        )
    return result


def ranges_table(ranges: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """Return the smallest, middle and largest reachable value of each limit on each device."""
    result = table("What the search can reach", "Device", "Figure", ">Smallest", ">Middle", ">Largest")
    for device, figures in ranges.items():
        for name, span in figures.items():
            result.add_row(
                device, name, *(display.quantity(name, span.get(word)) for word in ("smallest", "middle", "largest"))
            )
    return result


def _add_trial(
    result: Table, trial: TrialRead, device: str, description: Mapping[str, Any] | None, *, style: str
) -> None:
    summary = summarize(trial.plan, description)
    result.add_row(
        trial.label or f"trial {trial.number}",
        *_figures(trial.accuracy, trial.costs[device], trial.packed_bytes),
        display.amount(summary.weight_bits),
        f"{summary.channels_kept * 100:.0f}",
        "kept" if trial.feasible.get(device) else Text("broken", style="red"),
        summary.operators_text,
        style=style,
    )


def _figures(accuracy: float | None, costs: CostsRead, packed_bytes: int | None) -> tuple[str, str, str, str, str]:
    return (
        display.ABSENT if accuracy is None else f"{accuracy * 100:.2f}",
        display.amount(costs.latency_ms),
        display.amount(costs.energy_mj),
        f"{costs.model_bytes:,}",
        display.ABSENT if packed_bytes is None else f"{packed_bytes:,}",
    )


def _expected_error(row: EstimateRead) -> str:
    error = row.expected_error
    found = error.get("latency_ms") if isinstance(error, Mapping) else error
    return "–" if found is None else str(found)
