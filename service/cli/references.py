"""What users write for a model, a data set or a job: a file or an id, an id or ``last``."""

import json
from pathlib import Path
from typing import Any

import typer

from service.api.schemas import JobRead
from service.client import Client, ClientError

LAST = "last"


def find_job(client: Client, reference: str) -> JobRead:
    """Return the job with this id; the newest one for ``last``."""
    if reference != LAST:
        return client.job(reference)
    newest = client.jobs(limit=1)
    if not newest:
        raise ClientError("there are no jobs yet")
    return client.job(newest[0].id)


def find_model(client: Client, reference: str, *, architecture: str | None = None, **upload: Any) -> str:
    """Return the id of a model; a file is uploaded first."""
    if not is_file(reference):
        return reference
    return client.upload_model(reference, architecture=architecture, **upload).id


def find_dataset(client: Client, reference: str) -> str:
    """Return the id of a data set; a file is uploaded first."""
    return client.upload_dataset(reference).id if is_file(reference) else reference


def is_file(reference: str) -> bool:
    """Tell a path from an id.

    Raises:
        typer.BadParameter: It looks like a path and there is no such file.
    """
    path = Path(reference)
    if path.is_file():
        return True
    if path.suffix or len(path.parts) > 1:
        raise typer.BadParameter(f"there is no file {reference}")
    return False


def read_document(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} is not a JSON file: {error}") from None
    if not isinstance(data, dict):
        raise typer.BadParameter(f"{path} must hold a JSON object")
    return data
