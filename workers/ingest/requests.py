"""What can be asked of ingestion. Runs in the server and its forks; imports torch through the packages below."""

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from hwmodels.errors import InputError
from workers.ingest import models
from workers.ingest.npz import describe, read_npz
from workers.ingest.prices import plan_prices
from workers.ingest.protocol import REPLY_FILE, REQUEST_FILE, write_json

DATA_FILE = "data.safetensors"

Handler = Callable[[Mapping[str, Any], Path], Mapping[str, Any]]


def dataset(parameters: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Turn an ``.npz`` at ``path`` into a safetensors file with ``x`` and ``y``."""
    images, labels = read_npz(Path(parameters["path"]), max_bytes=parameters["max_bytes"])
    save_file({"x": images, "y": labels}, folder / DATA_FILE)
    return describe(images, labels)


REQUESTS: Mapping[str, Handler] = {
    "dataset": dataset,
    "model": models.ingest_model,
    "workload": models.plan_workload,
    "file_workload": models.file_workload,
    "fit": models.fit,
    "prices": plan_prices,
}


def preload() -> None:
    """Import and warm up what requests need, once, before the first fork."""
    import torch

    torch.set_num_threads(1)
    torch.zeros(1).add(1)


def answer(folder: Path) -> None:
    """Read the request in a folder, run it and write the reply there."""
    request = json.loads((folder / REQUEST_FILE).read_bytes())
    try:
        reply = {"result": dict(REQUESTS[request["kind"]](request["parameters"], folder))}
    except InputError as error:
        reply = {"problem": _problem(error.code, error.field, error.rule, error.value)}
    except Exception as error:  # parsers of hostile files raise anything
        if getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in str(error):  # safetensors' way to say it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        reply = {"problem": _unexpected(error)}
    write_json(folder / REPLY_FILE, reply)


def _unexpected(error: Exception) -> dict[str, Any]:
    if isinstance(error, MemoryError) or "alloc" in str(error):  # torch and protobuf raise errors of their own
        return _problem("ingest_out_of_memory", "file", "must be parsed within the memory that one upload may take")
    traceback.print_exc(file=sys.stderr)  # for the operator: a rule is missing somewhere
    first = (str(error).strip().splitlines() or [""])[0][:300]
    return _problem("unreadable", "file", f"must be readable; reading it failed with {type(error).__name__}: {first}")


def _problem(code: str, field: str, rule: str, value: object = None) -> dict[str, Any]:
    plain = value if isinstance(value, (bool, int, float, type(None))) else _short(value)
    return {"code": code, "field": field, "rule": rule, "value": plain}


def _short(value: object) -> object:
    if isinstance(value, str):
        return value[:200]
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return repr(value)[:200]
    return value if len(text) <= 200 else text[:200]
