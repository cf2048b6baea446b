"""Many jobs and trials in a database, as if they had been searched: for benchmarks of what reads them."""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from sqlalchemy import insert

from hwmodels.profile import builtin_profiles
from service.fronts import X_AXES
from service.store.database import Database
from service.store.fronts import Fronts, FrontTotals
from service.store.identifiers import new_id
from service.store.records import DatasetRecord, JobRecord, ModelRecord
from service.store.rows import moment
from service.store.states import JobStatus
from service.store.tables import LOCAL_OWNER, jobs, trials
from service.store.uploads import Datasets, Models
from workers.events import DeviceCosts, Evaluation
from workers.spec import DeviceTarget, JobSpec

DEVICE = "raspberry-pi-4"
VARIANTS = 1000
_AT_ONCE = 5000
_COLUMNS = (
    "job_id",
    "number",
    "origin",
    "label",
    "status",
    "candidate",
    "plan",
    "evaluation",
    "verified",
    "created_at",
    "ended_at",
)


def evaluations(seed: int = 0) -> list[Evaluation]:
    """Return a thousand evaluations of random costs, dearer ones more accurate on the whole."""
    rng = np.random.default_rng(seed)
    cost = rng.uniform(1, 20, VARIANTS)
    accuracy = np.clip(0.6 + 0.015 * cost + rng.normal(0, 0.05, VARIANTS), 0, 1)
    return [
        Evaluation(
            costs={
                DEVICE: DeviceCosts(
                    latency_ms=float(x),
                    energy_mj=float(2 * x),
                    model_bytes=int(4000 * x),
                    peak_memory_bytes=int(900 * x),
                    violations={},
                )
            },
            packed_bytes=int(3900 * x),
            macs=int(1e6 * x),
            bit_ops=int(6e7 * x),
            accuracy=float(y),
            correct=int(y * 1000),
            images=1000,
        )
        for x, y in zip(cost, accuracy, strict=True)
    ]


def fill(database: Database, *, job_count: int, trials_each: int, large: int) -> tuple[list[str], str]:
    """Store ended jobs with so many trials, and one with ``large``; return their identifiers, and that of the large."""
    spec = JobSpec(name="stored", devices=(DeviceTarget(name=DEVICE),))
    model, dataset = _uploads(database)
    template = _job(spec, model.id, dataset.id)
    names = [new_id() for _ in range(job_count)]
    rows = [asdict(replace(template, id=name, trial_counts={"done": trials_each})) for name in names]
    big = new_id()
    with database.write() as connection:
        connection.execute(
            insert(jobs), [asdict(replace(template, id=big, name="large", trial_counts={"done": large}))]
        )
        for start in range(0, len(rows), _AT_ONCE):
            connection.execute(insert(jobs), rows[start : start + _AT_ONCE])
    found = evaluations()
    _insert_trials(database, itertools.chain.from_iterable(_trials(name, trials_each, found) for name in names))
    _insert_trials(database, _trials(big, large, found))
    with database.write() as connection:
        _keep_front(Fronts(connection), big, found, large)
        for name in names:
            _keep_front(Fronts(connection), name, found, trials_each)
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
            plain.exec_driver_sql("ANALYZE")
    return names, big


def _uploads(database: Database) -> tuple[ModelRecord, DatasetRecord]:
    common = {"owner": LOCAL_OWNER, "name": "stored", "created_at": moment()}
    about: dict[str, Any] = {
        "input_shape": [1, 8, 8],
        "classes": 10,
        "parameters": 400,
        "macs": 12_000,
        "float_bytes": 1600,
        "layers": [],
        "blocks": [],
        "groups": [],
        "unprunable": {},
        "tensors": {},
        "workload": {"schema_version": 1, "kernels": [], "tensors": {}, "inputs": [], "outputs": []},
    }
    model = ModelRecord(
        id=new_id(),
        digest=new_id() * 2,
        format="onnx",
        task="classification",
        preprocessing={},
        description=about,
        source_artifact="0" * 64,
        graph_artifact="1" * 64,
        weights_artifact="2" * 64,
        **common,  # type: ignore[arg-type]
    )
    images = {"images": 797, "shape": [8, 8, 1], "dtype": "uint8", "classes": 10}
    dataset = DatasetRecord(id=new_id(), digest=new_id() * 2, description=images, artifact="3" * 64, **common)  # type: ignore[arg-type]
    with database.write() as connection:
        Models(connection).add(model)
        Datasets(connection).add(dataset)
    return model, dataset


def _job(spec: JobSpec, model_id: str, dataset_id: str) -> JobRecord:
    now = moment()
    return JobRecord(
        id="",
        owner=LOCAL_OWNER,
        name=spec.name,
        status=JobStatus.DONE,
        reason=None,
        request=None,
        model_id=model_id,
        dataset_id=dataset_id,
        spec=spec.to_json(),
        profiles={DEVICE: builtin_profiles()[DEVICE].to_json()},
        idempotency_key=None,
        request_digest="0" * 64,
        created_at=now,
        started_at=now,
        ended_at=now,
        progress={"done": 50, "total": 50, "seconds_left": None},
        baseline=evaluations()[0].to_json(),
        split={"calibration": 64, "search": 500, "test": 233},
        variables={},
        ranges={},
        resolvable_drop=0.01,
        spent_s=1.0,
        last_event=0,
        attempts=0,
        lease_owner=None,
        lease_until=None,
        epoch=1,
    )


def _trials(job_id: str, count: int, found: Sequence[Evaluation]) -> Iterator[tuple[Any, ...]]:
    documents = [json.dumps(row.to_json()) for row in found]
    plan = json.dumps({"schema_version": 1, "layers": {}, "keep_ratios": {}, "operators": {}})
    now = moment()
    for number in range(count):
        label, origin = ("uniform 8 bit", "baseline") if number == 0 else ("", "search")
        candidate = f'{{"schema_version":1,"indices":[{number}]}}'
        document = documents[number % VARIANTS]
        yield job_id, number, origin, label, "done", candidate, plan, document, False, now, now


def _insert_trials(database: Database, rows: Iterable[tuple[Any, ...]]) -> None:
    names = ", ".join(_COLUMNS)
    connection: Any = database.engine.raw_connection()  # the drivers' own ways in bulk are ten times faster
    try:
        cursor = connection.cursor()
        if database.is_sqlite:
            marks = ", ".join("?" * len(_COLUMNS))
            cursor.execute("BEGIN IMMEDIATE")
            plain = ((*row[:-2], *(str(value.replace(tzinfo=None)) for value in row[-2:])) for row in rows)
            cursor.executemany(f"INSERT INTO {trials.name} ({names}) VALUES ({marks})", plain)
        else:
            with cursor.copy(f"COPY {trials.name} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        connection.commit()
    finally:
        connection.close()


def _keep_front(fronts: Fronts, job_id: str, found: Sequence[Evaluation], count: int) -> None:
    """Write the front of the first ``count`` trials, which repeat the same thousand points."""
    rows = found[: min(count, VARIANTS)]
    values = {
        axis: [row.packed_bytes if axis == "packed_bytes" else getattr(row.costs[DEVICE], axis) for row in rows]
        for axis in X_AXES
    }
    joined = []
    for axis, costs in values.items():
        best = -1.0
        for number in sorted(range(len(rows)), key=lambda n, costs=costs: (costs[n], -(rows[n].accuracy or 0))):  # type: ignore[misc]
            if (rows[number].accuracy or 0.0) > best:
                best = rows[number].accuracy or 0.0
                joined.append((DEVICE, axis, number))
    dearest = {axis: float(max(costs)) for axis, costs in values.items()}
    totals = {DEVICE: FrontTotals(measured=count, feasible=count, dearest=dearest)}
    fronts.change(job_id, joined=joined, left=[], totals=totals)
