"""Graphs of stored networks, where another process can read them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.services import Services
from service.store.identifiers import new_id
from service.store.records import ModelRecord


@contextmanager
def graph_on_disk(services: Services, model: ModelRecord) -> Iterator[Path]:
    """Give the path of a model's graph for the length of the block."""
    path = services.settings.temporary / f"graph-{new_id()}"
    try:
        services.artifacts.copy_to(model.graph_artifact, path)
        yield path
    finally:
        path.unlink(missing_ok=True)
