"""``tightfit backup`` and ``tightfit restore``: the embedded default in one file."""

from pathlib import Path
from typing import Annotated

import typer

from service.backup import backup as write
from service.backup import restore as read
from service.cli.output import err, out
from service.errors import AppError
from service.settings import Settings


def backup(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="Where the backup goes.", dir_okay=False)],
) -> None:
    """Write database and artefacts of TIGHTFIT_HOME to one file; the service may run meanwhile."""
    try:
        count = write(Settings(), to)
    except AppError as error:
        err.print(error.detail, style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    out.print(f"{to}: the database and {count} artefacts", markup=False, soft_wrap=True)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.", exists=True, dir_okay=False)],
) -> None:
    """Fill an empty TIGHTFIT_HOME from a backup; the service must not run there."""
    settings = Settings()
    try:
        count = read(settings, file)
    except AppError as error:
        err.print(error.detail, style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    out.print(f"{settings.home}: the database and {count} artefacts, whole", markup=False, soft_wrap=True)
