"""Where commands write: results on stdout, progress and errors on stderr, so that ``--json`` can be piped."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from hwmodels.errors import InputError
from service.client import ClientError, ProblemError

PIPED_WIDTH = 160  # into a file or a pipe: wide enough that no table is folded


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else PIPED_WIDTH)


out = _console(stderr=False)
err = _console(stderr=True)


def print_json(value: Any) -> None:
    """Write one JSON document; models become what the API sent."""
    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """Write one JSON document on a line of its own, for streams."""
    typer.echo(json.dumps(plain(value), ensure_ascii=False))


def plain(value: Any) -> Any:
    """Return models, and lists and mappings of them, as plain JSON data."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def table(title: str, *headers: str) -> Table:
    """Return an empty table; a header that starts with ``>`` is of a column of figures, aligned right."""
    result = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    for header in headers:
        right = header.startswith(">")
        title = header.removeprefix(">").replace(" (", "\n(")  # the unit below: narrow columns
        result.add_column(title, justify="right" if right else "left", no_wrap=right, overflow="fold", vertical="top")
    return result


@contextmanager
def input_errors_end_the_command() -> Iterator[None]:
    """Print what a command that needs no service refused, and leave with exit code 1."""
    try:
        yield
    except (InputError, OSError) as error:
        err.print(str(error), markup=False, style="red", soft_wrap=True)
        raise typer.Exit(1) from None


@contextmanager
def problems_end_the_command() -> Iterator[None]:
    """Print what the service refused, or that it cannot be reached, and leave with exit code 1."""
    try:
        yield
    except ProblemError as error:
        err.print(f"[bold red]{error.title}[/] ({error.status})", soft_wrap=True)
        for line in error.lines() or [error.detail]:  # the detail says the same in one line
            err.print(line, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except ClientError as error:
        err.print(str(error), markup=False, style="red", soft_wrap=True)
        raise typer.Exit(1) from None
