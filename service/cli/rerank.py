"""``tightfit rerank``: what a job's trials are worth on other devices or under other limits."""

from typing import Annotated

import typer
from rich.table import Table

from service import display
from service.api.rerank_schemas import RerankedFrontRead, RerankedTrial
from service.cli.common import DEFAULT_URL, JobId, Json, Url
from service.cli.options import DEVICE_HELP, LIMIT_HELP, parse_device, parse_limits
from service.cli.output import out, print_json, problems_end_the_command, table
from service.cli.references import find_job
from service.client import Client


def rerank(
    job: JobId,
    device: Annotated[list[str] | None, typer.Option(help=f"{DEVICE_HELP} The job's own if left out.")] = None,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    x: Annotated[str | None, typer.Option("--x", help="Cost to trade against accuracy, latency_ms for one.")] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Price the trials of a job on other devices or under other limits, without a new search."""
    limits, devices = parse_limits(limit or []), [parse_device(text) for text in device or []]
    with problems_end_the_command(), Client(url) as client:
        read = find_job(client, job)
        own = [{"name": row.name, "limits": {}} for row in read.devices]
        found = client.rerank(read.id, devices or own, limits=limits, x=x)
        if as_json:
            print_json(found)
            return
        for front in found.fronts:
            out.print(_table(front))
            for reason, count in front.refusals.items():
                out.print(f"{count} of {front.trial_count} trials cannot run there as they are: {reason}", markup=False)
            out.print(f"best: {_best(front)}", "")


def _table(front: RerankedFrontRead) -> Table:
    title = f"{front.device}: {len(front.points)} on the front of {front.feasible_count} within the limits"
    headers = (">Accuracy (%)", ">Latency (ms)", ">Energy (mJ)", ">Model (bytes)", ">Peak memory (bytes)")
    result = table(title, "Trial", *headers)
    for trial in reversed(front.points):
        costs = trial.costs
        result.add_row(
            _name(trial),
            f"{trial.accuracy * 100:.2f}",
            display.amount(costs.latency_ms),
            display.amount(costs.energy_mj),
            f"{costs.model_bytes:,}",
            f"{costs.peak_memory_bytes:,}",
        )
    return result


def _best(front: RerankedFrontRead) -> str:
    if front.best is None:
        return "none within the limits and the drop of accuracy"
    verified = "its checkpoint is verified" if front.best.verified else "it has no verified checkpoint"
    return f"{_name(front.best)}, {display.accuracy(front.best.accuracy)}; {verified}"


def _name(trial: RerankedTrial) -> str:
    return trial.label or f"trial {trial.number}"
