"""``tightfit serve``: the service in the foreground."""

from pathlib import Path
from typing import Annotated, Any

import typer

from service.settings import Settings


def serve(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to bind; loopback if left out.")] = None,
    home: Annotated[
        Path | None, typer.Option(envvar="TIGHTFIT_HOME", help="Folder for database and artefacts.")
    ] = None,
) -> None:
    """Run the service: API, pages and dispatcher. Ctrl-C stops it."""
    from service.serve import serve as run  # the server's imports are not for commands that only ask it

    given: dict[str, Any] = {"TIGHTFIT_PORT": port, "TIGHTFIT_HOST": host, "TIGHTFIT_HOME": home}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    raise typer.Exit(run(settings))
