"""Commands that show what is there: jobs, front, estimate."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli import tables
from service.cli.common import DEFAULT_URL, JobId, Json, Url
from service.cli.options import LIMIT_HELP, parse_limits
from service.cli.output import out, print_json, problems_end_the_command
from service.cli.references import find_job, find_model, read_document
from service.client import Client


def jobs(
    url: Url = DEFAULT_URL,
    as_json: Json = False,
    status: Annotated[str | None, typer.Option(help="Only jobs of this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many, newest first.")] = 20,
) -> None:
    """List jobs, newest first."""
    with problems_end_the_command(), Client(url) as client:
        found = client.jobs(status=status, limit=limit)
        if as_json:
            print_json(found)
        elif found:
            out.print(tables.jobs_table(found))
        else:
            out.print("No jobs.")


def front(
    job: JobId,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
    device: Annotated[str | None, typer.Option(help="One of the job's devices; all of them if left out.")] = None,
    x: Annotated[str | None, typer.Option("--x", help="Cost to trade against accuracy, latency_ms for one.")] = None,
) -> None:
    """Show the Pareto front of a job, with the uniform baselines and the float network beside."""
    with problems_end_the_command(), Client(url) as client:
        read = find_job(client, job)
        names = [device] if device else [target.name for target in read.devices]
        fronts = [client.front(read.id, device=name, x=x) for name in names]
        if as_json:
            print_json(fronts)
            return
        model = client.model(read.model_id)
        for found in fronts:
            title = f"{found.device}: {len(found.points)} on the front of {found.feasible_count} within the limits"
            out.print(tables.front_table(found, model, title=title), "")


def estimate(
    model: Annotated[str, typer.Option(help="ONNX file to upload, or the id of a model.")],
    device: Annotated[list[str], typer.Option(help="Device profile. Repeat for more.")],
    url: Url = DEFAULT_URL,
    as_json: Json = False,
    plan: Annotated[Path | None, typer.Option(help="Plan (JSON) to apply first.", exists=True, dir_okay=False)] = None,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    fit_check: Annotated[bool, typer.Option(help="Also say what the search can reach.")] = False,
    layers: Annotated[bool, typer.Option(help="Also list every kernel.")] = False,
) -> None:
    """Price a network on devices, without a job."""
    limits = parse_limits(limit or [])
    with problems_end_the_command(), Client(url) as client:
        found = client.estimate(
            find_model(client, model),
            device,
            plan=None if plan is None else read_document(plan),
            limits=limits,
            fit_check=fit_check,
        )
        if as_json:
            print_json(found)
            return
        out.print(tables.estimates_table(found))
        if layers:
            for row in found.estimates:
                out.print("", tables.kernels_table(row))
        if found.ranges:
            out.print("", tables.ranges_table(found.ranges))
