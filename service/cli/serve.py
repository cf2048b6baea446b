"""``tightfit serve``: the service in the foreground."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from service.cli.output import err
from service.errors import AppError
from service.observability import logs
from service.settings import Settings


def serve(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; 8321 if left out.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to bind; loopback if left out.")] = None,
    home: Annotated[
        Path | None, typer.Option(envvar="TIGHTFIT_HOME", help="Folder for database and artefacts.")
    ] = None,
    no_dispatch: Annotated[
        bool, typer.Option("--no-dispatch", help="API and pages alone; `tightfit dispatch` runs the jobs elsewhere.")
    ] = False,
) -> None:
    """Run the service: API, pages and dispatcher. Ctrl-C stops it."""
    from service.serve import serve as run  # the server's imports are not for commands that only ask it

    given: dict[str, Any] = {"TIGHTFIT_PORT": port, "TIGHTFIT_HOST": host, "TIGHTFIT_HOME": home}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise typer.BadParameter(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    logs.start(settings.log_format)
    err.print(f"tightfit at http://{settings.host}:{settings.port}, data in {settings.home}", soft_wrap=True)
    try:
        run(settings, dispatch=not no_dispatch)
    except AppError as error:
        err.print(error.detail, style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
