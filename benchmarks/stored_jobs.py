"""Many jobs and trials in a database, as if they had been searched: for benchmarks of what reads them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Integer, Text, column, insert, literal, select, table

from hwmodels.profile import builtin_profiles
from service.fronts import X_AXES
from service.store.database import Database
from service.store.identifiers import new_id
from service.store.records import DatasetRecord, JobRecord, ModelRecord
from service.store.rows import moment
from service.store.states import JobStatus
from service.store.tables import LOCAL_OWNER, front_points, front_totals, jobs, trials
from service.store.uploads import Datasets, Models
from workers.events import DeviceCosts, Evaluation
from workers.spec import DeviceTarget, JobSpec

DEVICE = "raspberry-pi-4"
VARIANTS = 1000
_AT_ONCE = 5000


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
    big = new_id()
    found = evaluations()
    with database.write() as connection:
        first = replace(template, id=names[0], trial_counts={"done": trials_each})
        for record in (replace(template, id=big, name="large", trial_counts={"done": large}), first):
            connection.execute(insert(jobs), asdict(record))
        _repeat(connection, names)
        _insert_trials(connection, found, trials_each=trials_each, big=big, large=large)
        _keep_fronts(connection, _front(found, large), chosen=jobs.c.id == big)
        _keep_fronts(connection, _front(found, trials_each), chosen=jobs.c.id != big)
    if not database.is_sqlite:
        with database.reader.connect() as plain:  # outside of transactions
            plain.exec_driver_sql("VACUUM ANALYZE")
    return names, big


def _repeat(connection: Connection, names: Sequence[str]) -> None:
    """Let the database itself store the first of these jobs under the other names too."""
    connection.exec_driver_sql("CREATE TEMPORARY TABLE names (name varchar(32) PRIMARY KEY)")
    others = table("names", column("name", Text))
    for start in range(1, len(names), _AT_ONCE):
        connection.execute(insert(others), [{"name": name} for name in names[start : start + _AT_ONCE]])
    columns = [others.c.name if each.name == "id" else each for each in jobs.c]
    copies = select(*columns).select_from(jobs.join(others, literal(True))).where(jobs.c.id == names[0])
    connection.execute(insert(jobs).from_select([each.name for each in jobs.c], copies))


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


def _insert_trials(
    connection: Connection, found: Sequence[Evaluation], *, trials_each: int, big: str, large: int
) -> None:
    """Let the database itself make the trials: the number of each says which evaluation it repeats."""
    connection.exec_driver_sql("CREATE TEMPORARY TABLE variants (variant integer PRIMARY KEY, evaluation text)")
    variants = table("variants", column("variant", Integer), column("evaluation", Text))
    connection.execute(
        insert(variants),
        [{"variant": number, "evaluation": json.dumps(row.to_json())} for number, row in enumerate(found)],
    )
    fast = connection.dialect.name == "postgresql"
    indexes = sorted(trials.indexes, key=lambda index: str(index.name))
    if fast:  # no log to write, no foreign key to look up, and indices in one go: minutes instead of an hour
        connection.exec_driver_sql("ALTER TABLE trials SET UNLOGGED")
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '1GB'")
        for index in indexes:
            index.drop(connection)
    numbers = "WITH RECURSIVE numbers(number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE number < {})"
    copied = """
        INSERT INTO trials (job_id, number, origin, label, status, candidate, plan, evaluation, verified, created_at,
            ended_at)
        {} SELECT jobs.id, number, CASE number WHEN 0 THEN 'baseline' ELSE 'search' END,
            CASE number WHEN 0 THEN 'uniform 8 bit' ELSE '' END, 'done',
            {}'{{"schema_version": 1, "indices": [' || number || ']}}'{},
            '{{"schema_version": 1, "layers": {{}}, "keep_ratios": {{}}, "operators": {{}}}}', evaluation{}, {},
            jobs.created_at, jobs.ended_at
        FROM jobs CROSS JOIN numbers JOIN variants ON variant = number % {} WHERE jobs.id {} '{}' ORDER BY 1, 2"""
    cast = ("CAST(", " AS json)", "::json", "false") if fast else ("", "", "", "0")
    for last, sign in ((trials_each - 1, "<>"), (large - 1, "=")):
        connection.exec_driver_sql(
            copied.format(numbers.format(last), *cast, VARIANTS, sign, big).replace("%", "%%" if fast else "%")
        )
    for index in indexes if fast else ():
        index.create(connection)


def _front(found: Sequence[Evaluation], count: int) -> tuple[list[tuple[str, int]], dict[str, float]]:
    """Return axis and number of the points on the fronts of the first trials, and the largest of each cost."""
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
                joined.append((axis, number))
    return joined, {axis: float(max(costs)) for axis, costs in values.items()}


def _keep_fronts(
    connection: Connection, front: tuple[list[tuple[str, int]], dict[str, float]], *, chosen: ColumnElement[bool]
) -> None:
    """Write the same front for all jobs that are chosen."""
    joined, dearest = front
    for axis, number in joined:
        point = select(jobs.c.id, literal(DEVICE), literal(axis), literal(number)).where(chosen)
        connection.execute(insert(front_points).from_select(["job_id", "device", "axis", "number"], point))
    count = jobs.c.trial_counts["done"].as_integer()
    totals = select(jobs.c.id, literal(DEVICE), count, count, literal(dearest, jobs.c.spec.type)).where(chosen)
    names = ["job_id", "device", "measured", "feasible", "dearest"]
    connection.execute(insert(front_totals).from_select(names, totals))
