"""Timings of random networks as a file, so that a fit can be repeated without measuring again."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hwmodels.measure.machine import NetworkRun
from hwmodels.measure.session import Event
from hwmodels.workload import Workload


def write_runs(path: Path, runs: Sequence[NetworkRun]) -> None:
    """Write timings as gzipped JSON."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        json.dump([asdict(run) for run in runs], file)


def read_runs(path: Path) -> list[NetworkRun]:
    """Return what ``write_runs`` wrote."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = json.load(file)
    return [
        NetworkRun(
            name=row["name"],
            workload=Workload.from_json(row["workload"]),
            latency_us=row["latency_us"],
            events=tuple(Event(*event) for event in row["events"]),
        )
        for row in rows
    ]
