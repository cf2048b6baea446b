"""``/v1/datasets``."""

from functools import partial
from pathlib import PurePath
from typing import Annotated

import anyio
from fastapi import APIRouter, File, Form, Response, UploadFile

from service.api.dependencies import Cursor, Limit, ServicesOf
from service.api.presenters import dataset_read
from service.api.schemas import DatasetRead, Page
from service.retention import discard
from service.store.uploads import Datasets
from service.uploads import add_dataset, find_dataset

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.post("", status_code=201)
async def upload_dataset(
    services: ServicesOf,
    response: Response,
    file: Annotated[UploadFile, File(description="`.npz` with `x` (images) and `y` (labels from 0)")],
    name: Annotated[str | None, Form(max_length=200)] = None,
) -> DatasetRead:
    """Take in labelled data. The same file is the same data set, answered with 200."""
    default = PurePath(file.filename or "dataset").stem[:200] or "dataset"
    add = partial(add_dataset, services, file.file, name=name or default)
    dataset, new = await anyio.to_thread.run_sync(add, limiter=services.upload_threads)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return dataset_read(dataset)


@router.get("")
def list_datasets(services: ServicesOf, cursor: Cursor = None, limit: Limit = 50) -> Page[DatasetRead]:
    """List data sets, the newest first."""
    with services.database.read() as connection:
        rows = Datasets(connection).page(before=cursor, limit=limit + 1)
    return Page(
        items=[dataset_read(row) for row in rows[:limit]],
        next_cursor=rows[limit - 1].id if len(rows) > limit else None,
    )


@router.get("/{dataset_id}")
def read_dataset(services: ServicesOf, dataset_id: str) -> DatasetRead:
    """Return a data set."""
    return dataset_read(find_dataset(services, dataset_id))


@router.delete("/{dataset_id}", status_code=204)
def delete_dataset(services: ServicesOf, dataset_id: str) -> None:
    """Forget a data set with its file; 409 if a job uses it."""
    find_dataset(services, dataset_id)
    with services.database.write() as connection:
        named = Datasets(connection).remove(dataset_id)
    discard(services.database, services.artifacts, named)
