"""Time an ONNX file on this machine, and keep the figures as rows of a CSV file."""

import argparse
import csv
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import onnxruntime

from hwmodels.errors import InputError
from hwmodels.measure.processor import processor_facts
from hwmodels.measure.session import feeds, run_times_us, session

ROUNDS = 2  # sessions of their own: memory lies elsewhere, and what disturbs one does not disturb the other
WARM_UP_RUNS = 3
LEAST_RUNS = 10
CHILD_SECONDS = 300.0  # beyond what was asked for: loading, optimizing, the least number of runs
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "HOME", "TMPDIR", "SYSTEMROOT")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTiming:
    """How long a file takes, batch of one, warm.

    ``latency_ms`` is the median of all runs, ``least_ms`` the fastest; ``noise_percent`` is by how much the medians of
    two sessions differ. Beyond a few percent the machine was busy or its clock moved.
    """

    latency_ms: float
    least_ms: float
    noise_percent: float
    runs: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """A row of the CSV file; ``calibrate`` reads ``network``, ``file`` and ``latency_ms``."""

    network: str
    file: str  # relative to the CSV file where it lies below it
    latency_ms: float
    least_ms: float
    noise_percent: float
    runs: int
    threads: int
    runtime: str
    machine: str
    measured_at: str
    sha256: str


def time_file(path: Path, *, threads: int = 1, seconds: float = 2.0) -> FileTiming:
    """Return how long a file takes in ONNX Runtime, in a process of its own.

    Raises:
        InputError: The file is not there, or ONNX Runtime cannot load or run it; the rule has its first line.
    """
    if not path.is_file():
        raise InputError("file", "is not there", str(path))
    if threads < 1:
        raise InputError("threads", "must be at least 1", threads)
    if not 0 < seconds <= 3600:
        raise InputError("seconds", "must be above 0 and at most 3600", seconds)
    command = [sys.executable, "-m", __name__, str(path.resolve()), str(threads), str(seconds)]
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment["OMP_NUM_THREADS"] = str(threads)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds + CHILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError("file", f"did not run within {seconds + CHILD_SECONDS:g} s", str(path)) from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"the process ended with {done.returncode}"
        raise InputError("file", f"ONNX Runtime cannot run it: {reason}", str(path))
    rounds = json.loads(done.stdout)
    return _summed_up(rounds, threads)


def _summed_up(rounds: Sequence[Sequence[float]], threads: int) -> FileTiming:
    medians = [median(found) for found in rounds]
    every = [value for found in rounds for value in found]
    return FileTiming(
        latency_ms=round(median(every) / 1e3, 4),
        least_ms=round(min(every) / 1e3, 4),
        noise_percent=round(100 * (max(medians) / min(medians) - 1), 2),
        runs=len(every),
        threads=threads,
    )


def bench_row(path: Path, timing: FileTiming, *, network: str, table: Path) -> BenchRow:
    """Return what to write down of a timing."""
    whole = path.absolute()
    folder = table.absolute().parent
    return BenchRow(
        network=network,
        file=str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole),
        runtime=f"ONNX Runtime {onnxruntime.__version__}",
        machine=processor_facts()[0],
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        **asdict(timing),
    )


def append_row(table: Path, row: BenchRow) -> None:
    """Append a row to a CSV file, which gets its header first if it is new. Other columns of the file stay empty.

    Raises:
        InputError: The file lacks a column that the row has.
    """
    values: Mapping[str, object] = asdict(row)
    columns = list(values)
    new = not table.is_file() or table.stat().st_size == 0
    if not new:
        with table.open(encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file), [])
        missing = [name for name in values if name not in columns]
        if missing:
            raise InputError(str(table), f"is a table without the column {missing[0]!r}; write to another file")
        with table.open("rb+") as raw:  # an editor may have left no line end
            raw.seek(-1, os.SEEK_END)
            if raw.read(1) != b"\n":
                raw.write(b"\n")
    with table.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(values)


def _child() -> None:
    """Time the file that the command line names; print the times of each round in µs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("threads", type=int)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    rounds = []
    for _ in range(ROUNDS):
        opened = session(options.file, threads=options.threads)
        values = feeds(opened)
        started = time.perf_counter()
        run_times_us(opened, values, seconds=0, least=WARM_UP_RUNS)
        each = (time.perf_counter() - started) / WARM_UP_RUNS
        least = min(LEAST_RUNS, max(3, math.ceil(4 * options.seconds / each)))
        rounds.append(run_times_us(opened, values, seconds=options.seconds / ROUNDS, least=least))
        del opened
    json.dump(rounds, sys.stdout)


if __name__ == "__main__":
    _child()
