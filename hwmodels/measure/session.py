"""Time ONNX files with ONNX Runtime in this process."""

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

FLOATS = "tensor(float)"


class Event(NamedTuple):
    """A launch of the runtime's profile: the node's name and operator, values written, time of every run."""

    name: str
    op: str
    output_elements: int
    latency_us: float


def session(model: bytes | Path, *, threads: int = 1, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """Return a session on the CPU with all optimizations; ``profile`` is where its profile goes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    content = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def feeds(opened: onnxruntime.InferenceSession) -> dict[str, Any]:
    """Return inputs in [0, 1) for a session; a dimension without a size is one."""
    generator = np.random.default_rng(0)
    found = {}
    for item in opened.get_inputs():
        shape = [size if isinstance(size, int) and size > 0 else 1 for size in item.shape]
        values = generator.random(shape, np.float32)
        found[item.name] = values if item.type == FLOATS else values.astype(_DTYPES.get(item.type, np.float32))
    return found


_DTYPES = {
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}


def run_times_us(
    opened: onnxruntime.InferenceSession,
    values: dict[str, Any],
    *,
    seconds: float,
    least: int = 5,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[float]:
    """Return the time of each run: at least ``least`` runs, and as many as ``seconds`` allow.

    With ``time.thread_time_ns`` as the clock other processes' turns are left out; that is right for one thread.
    """
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < least or time.perf_counter() < end:
        started = clock()
        opened.run(None, values)
        found.append((clock() - started) / 1e3)
    return found


def launches(model: bytes | Path, *, runs: int) -> list[Event]:
    """Return every launch of a network with its usual time, in the order of a run. One thread.

    Usual is what one run in ten stays below: whatever disturbs a launch only ever adds to it.
    """
    with tempfile.TemporaryDirectory() as folder:
        opened = session(model, profile=Path(folder) / "profile")
        values = feeds(opened)
        for _ in range(WARM_UP + runs):
            opened.run(None, values)
        path = Path(opened.end_profiling())
        events = json.loads(path.read_text(encoding="utf-8"))
    return list(_events(events))


WARM_UP = 2


def _events(events: list[dict[str, Any]]) -> Iterator[Event]:
    times: dict[tuple[str, int], list[float]] = defaultdict(list)
    first: dict[tuple[str, int], dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = (event["name"], int(event["args"].get("node_index", 0)))
            times[key].append(event["dur"] + 0.5)  # microseconds are cut off
            first.setdefault(key, event)
    for key, found in times.items():
        arguments = first[key]["args"]
        shapes = [shape for row in arguments.get("output_type_shape", []) for shape in row.values()]
        elements = sum(int(np.prod(shape)) for shape in shapes)
        yield Event(
            key[0].removesuffix("_kernel_time"),
            arguments["op_name"],
            elements,
            float(np.quantile(found[WARM_UP:], 0.1)),
        )
