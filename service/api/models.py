"""``/v1/models``."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import PurePath
from typing import Annotated

import anyio
from fastapi import APIRouter, File, Form, Response, UploadFile

from hwmodels.errors import InputError
from service.api.dependencies import Cursor, Limit, ServicesOf
from service.api.presenters import model_read, model_summary
from service.api.schemas import ModelRead, ModelSummary, Page
from service.retention import discard
from service.store.uploads import Models
from service.uploads import add_model, find_model
from workers.spec import Preprocessing

router = APIRouter(prefix="/v1/models", tags=["models"])

Text = Annotated[str | None, Form(max_length=200)]
Values = Annotated[str | None, Form(max_length=10_000, description="A number or a JSON list of numbers")]


@router.post("", status_code=201)
async def upload_model(
    services: ServicesOf,
    response: Response,
    file: Annotated[UploadFile, File(description="ONNX, or the safetensors of `architecture`")],
    data: Annotated[UploadFile | None, File(description="Where an ONNX file keeps its tensors beside itself")] = None,
    task: Annotated[str, Form(max_length=50)] = "classification",
    name: Text = None,
    architecture: Text = None,
    layout: Annotated[str, Form(max_length=10, description="Of stored integer images: NHWC or NCHW")] = "NHWC",
    scale: Annotated[float, Form(allow_inf_nan=False)] = Preprocessing().scale,
    mean: Values = None,
    std: Values = None,
) -> ModelRead:
    """Take in a trained network. The same file with the same fields is the same model, answered with 200."""
    preprocessing = Preprocessing(
        layout=layout,
        scale=scale,
        mean=_numbers("mean", mean, Preprocessing().mean),
        std=_numbers("std", std, Preprocessing().std),
    )
    add = partial(
        add_model,
        services,
        file.file,
        data.file if data is not None and data.size else None,
        name=name or PurePath(file.filename or "model").stem[:200] or "model",
        architecture=architecture or None,
        task=task,
        preprocessing=preprocessing,
    )
    model, new = await anyio.to_thread.run_sync(add, limiter=services.upload_threads)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/models/{model.id}"
    return model_read(model, await anyio.to_thread.run_sync(services.profiles))


@router.get("")
def list_models(services: ServicesOf, cursor: Cursor = None, limit: Limit = 50) -> Page[ModelSummary]:
    """List models, the newest first."""
    with services.database.read() as connection:
        rows = Models(connection).page(before=cursor, limit=limit + 1)
    return Page(
        items=[model_summary(row) for row in rows[:limit]],
        next_cursor=rows[limit - 1].id if len(rows) > limit else None,
    )


@router.get("/{model_id}")
def read_model(services: ServicesOf, model_id: str) -> ModelRead:
    """Return a model: its layers, blocks and channel groups, and what it costs as it is."""
    return model_read(find_model(services, model_id), services.profiles())


@router.delete("/{model_id}", status_code=204)
def delete_model(services: ServicesOf, model_id: str) -> None:
    """Forget a model with its files; 409 if a job uses it."""
    find_model(services, model_id)
    with services.database.write() as connection:
        named = Models(connection).remove(model_id)
    discard(services.database, services.artifacts, named)


def _numbers(field: str, text: str | None, default: Sequence[float]) -> tuple[float, ...]:
    if not text:
        return tuple(default)
    try:
        data = json.loads(text)
        values = tuple(float(value) for value in (data if isinstance(data, list) else [data]))
    except (ValueError, TypeError, OverflowError, RecursionError):
        values = ()
    if not values or len(values) > 1024 or not all(abs(value) < float("inf") for value in values):
        raise InputError(field, "must be a number or a JSON list of numbers", text)
    return values
