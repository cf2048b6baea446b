"""``tightfit export-study``: a job's search for Optuna's own tools."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.common import DEFAULT_URL, JobId, Url
from service.cli.output import out, problems_end_the_command
from service.cli.references import find_job
from service.client import Client


def export_study(
    job: JobId,
    file: Annotated[Path, typer.Argument(help="Where to write the Optuna journal.", dir_okay=False)],
    url: Url = DEFAULT_URL,
    device: Annotated[str | None, typer.Option(help="One of the job's devices; the first if left out.")] = None,
) -> None:
    """Write a job's trials as an Optuna study; `optuna-dashboard FILE` shows it."""
    with problems_end_the_command(), Client(url) as client:
        path = client.download_study(find_job(client, job).id, file, device=device)
        out.print(f"wrote {path}; optuna-dashboard {path} shows it", markup=False, soft_wrap=True)
