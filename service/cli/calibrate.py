"""``tightfit calibrate``: a profile of this machine, or of any device that was measured."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hwmodels.errors import InputError, UnknownNameError
from hwmodels.measure.rows import MeasuredRow, measurements, read_rows
from hwmodels.own_device import OwnDevice, fit_own_device
from hwmodels.profile import Profile, builtin_profiles, check_name, load_profile
from hwmodels.validation import ErrorSummary
from hwmodels.workload import Workload
from service.cli.output import err, input_errors_end_the_command, out, table
from workers.ingest.client import IngestClient
from workers.ingest.protocol import Limits

NETWORKS = 24
MIB = 1 << 20
READING = Limits(seconds=120.0, memory_bytes=8192 * MIB, file_bytes=2048 * MIB)


def calibrate(
    name: Annotated[str, typer.Argument(help="Name of the new profile: lower case, digits and hyphens.")],
    output: Annotated[Path | None, typer.Option(help="Where to write it; NAME.yaml by default.")] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            "--measurements", help="CSV of your own measurements; left out: measure this machine.", exists=True
        ),
    ] = None,
    like: Annotated[str, typer.Option(help="Profile to start from, by name or as a file; with --measurements.")] = "",
    title: Annotated[str, typer.Option(help="What to call the device in full.")] = "",
    networks: Annotated[
        int, typer.Option(min=4, max=200, help="Random networks to time in float, and as many in int8.")
    ] = NETWORKS,
) -> None:
    """Write a device profile: of this machine, by timing kernels in ONNX Runtime, or fitted to your measurements.

    Measuring takes a few minutes and one core; leave the machine alone meanwhile. Needs no service.
    """
    target = output or Path(f"{name}.yaml")
    with input_errors_end_the_command():
        check_name(name)
        if measured is None:
            profile, errors = _this_machine(name, networks)
        else:
            own = _from_table(name, title, measured, like)
            profile = own.profile
            errors = {part.applies_to: part.fit.left_out for part in own.parts if part.fit is not None}
            _tell_parts(own)
        target.write_text(profile.to_yaml(), encoding="utf-8")
    shown = table(
        "Error on what the fit had not seen", "Networks", ">Count", ">MAPE (%)", ">±10 % (%)", ">Spearman", ">Worst (%)"
    )
    for kind, found in errors.items():
        rank = "–" if found.spearman is None else f"{found.spearman:.3f}"
        figures = (f"{found.mape_percent:.1f}", f"{found.within_10_percent:.0f}", rank, f"{found.worst_percent:.0f}")
        shown.add_row(kind, str(found.count), *figures)
    out.print(shown)
    out.print(f"\nWrote {target}. `tightfit devices add {target}` makes the service know it.", soft_wrap=True)


def _this_machine(name: str, networks: int) -> tuple[Profile, Mapping[str, ErrorSummary]]:
    from hwmodels.measure.machine import blocked_channels, fit_machine, measure_machine  # as in ``bench``

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} of {task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("Timing networks of random layers", total=None)
        runs = measure_machine(
            networks=networks, progress=lambda done, total, left: bar.update(task, completed=done, total=total)
        )
        bar.update(task, description="Fitting")
        source = f"measured by tightfit calibrate, {networks} float and {networks} int8 networks of random layers"
        found = fit_machine(runs, name=name, block=blocked_channels(), source=source)
    return found.profile, found.left_out


def _from_table(name: str, title: str, path: Path, like: str) -> OwnDevice:
    if not like:
        raise InputError("like", "must name the profile to start from; `tightfit devices` lists them")
    rows = read_rows(path.read_text(encoding="utf-8"))
    found = measurements(rows, _workloads(rows, path.parent))
    return fit_own_device(_profile(like), found, name=name, title=title, source=f"own measurements, {path.name}")


def _profile(reference: str) -> Profile:
    if Path(reference).is_file():
        return load_profile(Path(reference))
    known = builtin_profiles()
    if reference not in known:
        raise UnknownNameError("like", f"must be a file or one of {', '.join(known)}", reference)
    return known[reference]


def _workloads(rows: Sequence[MeasuredRow], folder: Path) -> Mapping[str, Workload]:
    """Return the networks of the rows that name one, read in processes that may die."""
    files = {row.network: row for row in rows if row.kernel is None}
    found: dict[str, Workload] = {}
    if not files:
        return found
    with tempfile.TemporaryDirectory() as scratch:
        reader = IngestClient(scratch=Path(scratch), limits=READING)
        try:
            for network, row in files.items():
                path = (folder / row.file).resolve()
                if not row.file or not path.is_file():
                    raise InputError(f"line {row.line}, file", "must be the network's ONNX file", row.file)
                err.print(f"Reading {path.name}", style="dim")
                with reader.run("file_workload", {"path": str(path)}) as reply:
                    found[network] = Workload.from_json(reply.result["workload"])
        finally:
            reader.close()
    return found


def _tell_parts(own: OwnDevice) -> None:
    for part in own.parts:
        if part.fit is None:
            err.print(f"{part.measurements} {part.applies_to} measurements are too few to fit; they were left aside.")
