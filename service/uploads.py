"""Taking in models and data sets: ingest first, keep the files, then write one row. A refused upload leaves nothing."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sqlalchemy import Connection

from hwmodels.errors import InputError
from service.artifacts import CHUNK_BYTES, Artifact
from service.errors import ConflictError, NotFoundError, TooLargeError, UnavailableError
from service.quotas import check_storage
from service.retention import discard
from service.services import Services
from service.store.artifact_uses import ArtifactUses
from service.store.identifiers import new_id
from service.store.records import DatasetRecord, ModelRecord
from service.store.rows import moment
from service.store.uploads import NO_DATA, Datasets, Models
from workers.ingest.descriptions import checked_dataset, checked_model
from workers.spec import Preprocessing

TASKS = ("classification",)
LAYOUTS = ("NHWC", "NCHW")

Record = TypeVar("Record", ModelRecord, DatasetRecord)


def add_model(
    services: Services,
    file: BinaryIO,
    data: BinaryIO | None,
    *,
    name: str,
    architecture: str | None,
    task: str,
    preprocessing: Preprocessing,
) -> tuple[ModelRecord, bool]:
    """Ingest and store a network; say whether it is new.

    The same files with the same words about them are one model, under the name that it first had. ``data`` holds the
    tensors of an ONNX file that keeps them beside itself; it is not stored, the model's own weights are.

    Raises:
        InputError: The file or one of the fields cannot be used.
        TooLargeError: The file is longer than uploads may be.
    """
    if task not in TASKS:
        raise InputError("task", f"must be one of {', '.join(TASKS)}", task)
    _check_preprocessing(preprocessing)
    with services.database.read() as connection:
        check_storage(connection, services.settings, services.owner)
    with ExitStack() as files:
        path, source = files.enter_context(_on_disk(services, file))
        beside = None if data is None else files.enter_context(_on_disk(services, data))
        parameters = {"path": str(path), "data": beside and str(beside[0]), "architecture": architecture}
        with services.ingest.run("model", parameters) as reply:
            description = checked_model(reply.result)
            _check_channels(preprocessing, description["input_shape"])
            graph = services.artifacts.store_file(reply.file("graph.json"))
            weights = services.artifacts.store_file(reply.file("weights.safetensors"))
        services.artifacts.store_file(path)
    said = {"architecture": architecture, "task": task, "preprocessing": preprocessing.to_json()}
    if beside is not None:
        said["data"] = beside[1].digest
    model = ModelRecord(
        id=new_id(),
        owner=services.owner,
        name=name,
        digest=_digest(source, said),
        format=architecture or "onnx",
        task=task,
        preprocessing=preprocessing.to_json(),
        description=description,
        source_artifact=source.digest,
        graph_artifact=graph.digest,
        weights_artifact=weights.digest,
        created_at=moment(),
    )
    return _keep(services, lambda connection: Models(connection).add(model), [source, graph, weights])


def add_dataset(services: Services, file: BinaryIO, *, name: str) -> tuple[DatasetRecord, bool]:
    """Ingest and store a data set; say whether it is new.

    Raises:
        InputError: The file cannot be used.
        TooLargeError: The file is longer than uploads may be.
    """
    with services.database.read() as connection:
        check_storage(connection, services.settings, services.owner)
    with _on_disk(services, file) as (path, source):
        parameters = {"path": str(path), "max_bytes": services.settings.max_unpacked_bytes}
        with services.ingest.run("dataset", parameters) as reply:
            description = checked_dataset(reply.result)
            data = services.artifacts.store_file(reply.file("data.safetensors"))
    dataset = DatasetRecord(
        id=new_id(),
        owner=services.owner,
        name=name,
        digest=_digest(source, {}),
        description=description,
        artifact=data.digest,
        created_at=moment(),
    )
    return _keep(services, lambda connection: Datasets(connection).add(dataset), [data])


def no_dataset(services: Services) -> DatasetRecord:
    """Return what stands in the place of a data set in jobs without data: an empty one that no list shows."""
    nothing = services.artifacts.store_bytes(b"")
    record = DatasetRecord(
        id=new_id(),
        owner=services.owner,
        name="no data",
        digest=NO_DATA,
        description={"images": 0, "shape": [1], "dtype": "float32", "classes": 1},
        artifact=nothing.digest,
        created_at=moment(),
    )
    found, _ = _keep(services, lambda connection: Datasets(connection).add(record), [nothing])
    return found


def _keep(
    services: Services, add: Callable[[Connection], tuple[Record, bool]], artifacts: Sequence[Artifact]
) -> tuple[Record, bool]:
    """Write the row that names artefacts, if they are still there and its owner has room for them."""
    digests = [artifact.digest for artifact in artifacts]
    try:
        with services.database.write() as connection:
            uses = ArtifactUses(connection)
            uses.lock()
            record, new = add(connection)
            if new:
                more = sum(artifact.bytes for artifact in artifacts)
                check_storage(connection, services.settings, services.owner, more=more)
                if not all(services.artifacts.exists(digest) for digest in digests):
                    raise UnavailableError("what was uploaded was removed meanwhile with its last user; send it again")
                uses.add(services.owner, record.id, artifacts)
    except (ConflictError, UnavailableError):
        discard(services.database, services.artifacts, digests)
        raise
    return record, new


def find_model(services: Services, identifier: str, *, field: str | None = None) -> ModelRecord:
    """Return a model, or say in which ``field`` an unknown one was asked for."""
    with services.database.read() as connection:
        found = Models(connection).get(identifier)
    if found is None:
        raise NotFoundError("model", identifier, field=field)
    return found


def find_dataset(services: Services, identifier: str, *, field: str | None = None) -> DatasetRecord:
    """Return a data set, or say in which ``field`` an unknown one was asked for."""
    with services.database.read() as connection:
        found = Datasets(connection).get(identifier)
    if found is None:
        raise NotFoundError("dataset", identifier, field=field)
    return found


@contextmanager
def _on_disk(services: Services, file: BinaryIO) -> Iterator[tuple[Path, Artifact]]:
    """Give an upload as a file that another process can open, with its hash and length, for the length of the block."""
    limit = services.settings.max_upload_bytes
    path = services.settings.temporary / f"upload-{new_id()}"
    digest, length = hashlib.sha256(), 0
    try:
        with path.open("wb") as copy:
            while piece := file.read(CHUNK_BYTES):
                length += len(piece)
                if length > limit:
                    raise TooLargeError(f"a file must be at most {limit} bytes")
                copy.write(piece)
                digest.update(piece)
        yield path, Artifact(digest=digest.hexdigest(), bytes=length)
    finally:
        path.unlink(missing_ok=True)


def _check_preprocessing(preprocessing: Preprocessing) -> None:
    if preprocessing.layout not in LAYOUTS:
        raise InputError("layout", f"must be one of {', '.join(LAYOUTS)}", preprocessing.layout)
    if not preprocessing.scale > 0:
        raise InputError("scale", "must be positive", preprocessing.scale)
    if len(preprocessing.mean) != len(preprocessing.std):
        raise InputError("std", f"must have as many values as mean ({len(preprocessing.mean)})", len(preprocessing.std))
    if not all(value > 0 for value in preprocessing.std):
        raise InputError("std", "must be positive", list(preprocessing.std))


def _check_channels(preprocessing: Preprocessing, input_shape: list[int]) -> None:
    channels = input_shape[0]
    if len(preprocessing.mean) not in (1, channels):
        raise InputError("mean", f"must have 1 or {channels} values: one per channel", len(preprocessing.mean))


def _digest(source: Artifact, said: Mapping[str, Any]) -> str:
    text = json.dumps({"source": source.digest, **said}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
