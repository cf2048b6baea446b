"""Options that most commands share."""

from typing import Annotated

import typer

from service.client import DEFAULT_URL

Url = Annotated[str, typer.Option("--url", envvar="TIGHTFIT_URL", help="Where the service is.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
JobId = Annotated[str, typer.Argument(help="The job's id, or `last` for the newest job.")]

__all__ = ["DEFAULT_URL", "JobId", "Json", "Url"]
