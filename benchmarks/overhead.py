"""What does a trial cost beside the evaluation itself?

Runs a job of the digits example through the real driver, one evaluator on a local Ray, and the service's own store on
SQLite, as a dispatcher does. A trial's overhead is the time from the end of one trial to the end of the next, less
what the evaluator spent on the network (building the plan's network, forward passes): how long the evaluator stood
idle. Telling, asking, repairing, pricing and persisting go on while it works; what they take stands beside. The
baseline is a Ray Tune function trainable that waits as long as an evaluation takes.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.searching import start_payload
from service.artifacts import ArtifactStore
from service.recording import Recorder
from service.store.database import Database
from service.store.identifiers import new_id
from service.store.jobs import Jobs
from service.store.leases import Leases
from service.store.migrate import upgrade_to_head
from service.store.records import DatasetRecord, JobRecord, ModelRecord
from service.store.rows import moment
from service.store.states import JobStatus
from service.store.tables import LOCAL_OWNER
from service.store.uploads import Datasets, Models
from workers import cluster
from workers.events import JobEnded, StatusChanged, TrialEnded, TrialStatus
from workers.spec import Budget, DeviceTarget, JobSpec, Limits

TARGET_MS = 5.0
LEASE_S = 3600.0
MEASURED = (TrialStatus.DONE, TrialStatus.STOPPED)
OURS = ("repair", "price", "dispatch", "tell")  # parts that the driver times itself


def main() -> int:
    """Print the table; return 1 if the overhead is above its target."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--trials", type=int, default=200, help="trials of the job (200)")
    arguments.add_argument("--tune-trials", type=int, default=12, help="trials of the baseline (12)")
    arguments.add_argument("--strategy", default="nsga2", help="the job's strategy (nsga2)")
    options = arguments.parse_args()
    cluster.connect(cpus=2)
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = job_rows(Path(folder), trials=options.trials, strategy=options.strategy)
            evaluation_s = statistics.median(row["evaluation"] for row in rows)
            tune_s = tune_overhead_s(Path(folder), trials=options.tune_trials, evaluation_s=evaluation_s)
    finally:
        cluster.disconnect()
    figures = summary(rows, tune_s)
    parts = [(name, figures["median_ms"][name], figures["p90_ms"][name]) for name in figures["median_ms"]]
    common.print_table(f"a trial, median over {len(rows)}", ("part", "median ms", "90th percentile ms"), parts)
    common.print_table(
        "overhead per trial",
        ("", "ms"),
        [("tightfit", figures["median_ms"]["overhead"]), ("Ray Tune function trainable", figures["ray_tune_ms"])],
    )
    common.report("overhead", figures, path=options.json)
    return int(figures["median_ms"]["overhead"] > TARGET_MS)


def job_rows(folder: Path, *, trials: int, strategy: str) -> list[dict[str, float]]:
    """Run a job to the end of its search; return the seconds of each evaluated trial by part."""
    spec = JobSpec(
        name="overhead",
        devices=(
            DeviceTarget(name="raspberry-pi-4", limits=Limits(model_bytes=70_000)),
            DeviceTarget(name="stm32h743", limits=Limits(model_bytes=50_000, latency_ms=3.0)),
        ),
        budget=Budget(trials=trials),
        strategy=strategy,
    )
    database = Database(f"sqlite:///{folder / 'tightfit.db'}")
    upgrade_to_head(database)
    job = claimed(database, spec)
    recorder = Recorder(database, ArtifactStore(folder.as_uri()), job, [], lease_seconds=LEASE_S)
    driver = cluster.RunningDriver(start_payload(spec), evaluators=1)
    rows: list[dict[str, float]] = []
    acknowledged, persist_s, last_end = 0, 0.0, None
    while True:
        events = driver.advance(acknowledged)
        arrived = time.perf_counter()
        if not events:
            continue
        for _, event in events:
            if isinstance(event, JobEnded):
                raise RuntimeError(f"the job ended early: {event.reason}")
            if isinstance(event, TrialEnded):
                if last_end is not None and event.trial.status in MEASURED and event.trial.evaluation:
                    seconds = event.trial.evaluation.seconds
                    rows.append(row(seconds, wall_s=arrived - last_end, persist_s=persist_s))
                last_end, persist_s = arrived, 0.0
        if any(event == StatusChanged(status="packaging") for _, event in events):
            driver.kill()
            database.close()
            return rows
        recorder.commit([event for _, event in events])
        persist_s += time.perf_counter() - arrived
        acknowledged = events[-1][0]


def row(seconds: Mapping[str, float], *, wall_s: float, persist_s: float) -> dict[str, float]:
    """Return a trial's seconds by part; ``overhead`` is what the evaluator waited, ``work`` what we did meanwhile."""
    evaluation = seconds["apply"] + seconds["forward"]
    parts = {**{name: seconds.get(name, 0.0) for name in OURS}, "persist": persist_s}
    return {
        "overhead": wall_s - evaluation,
        "work": sum(parts.values()),
        **parts,
        "sampler": seconds.get("sampler", 0.0),
        "evaluation": evaluation,
    }


def summary(rows: Sequence[Mapping[str, float]], tune_s: float) -> dict[str, Any]:
    """Return medians and 90th percentiles in milliseconds."""
    columns = {name: np.array([row[name] for row in rows]) * 1e3 for name in rows[0]}
    return {
        "trials": len(rows),
        "target_ms": TARGET_MS,
        "median_ms": {name: float(np.median(values)) for name, values in columns.items()},
        "p90_ms": {name: float(np.percentile(values, 90)) for name, values in columns.items()},
        "ray_tune_ms": tune_s * 1e3,
    }


def tune_overhead_s(folder: Path, *, trials: int, evaluation_s: float) -> float:
    """Return the seconds per trial that Ray Tune takes beside an evaluation of the given length."""
    from ray import tune

    def trainable(config: Mapping[str, Any]) -> None:
        time.sleep(evaluation_s)
        tune.report({"accuracy": 0.9, "number": config["number"]})

    tuner = tune.Tuner(
        trainable,
        param_space={"number": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    )
    start = time.perf_counter()
    results = tuner.fit()
    if results.num_errors or len(results) != trials:
        raise RuntimeError("the baseline failed")
    return (time.perf_counter() - start) / trials - evaluation_s


def claimed(database: Database, spec: JobSpec) -> JobRecord:
    """Store a job as a submission would, and claim it as a dispatcher would."""
    model = ModelRecord(
        id=new_id(),
        owner=LOCAL_OWNER,
        name="digits",
        digest="1" * 64,
        format="safetensors",
        task="classification",
        preprocessing={},
        description={},
        source_artifact="",
        graph_artifact="",
        weights_artifact="",
        created_at=moment(),
    )
    dataset = DatasetRecord(
        id=new_id(), owner=LOCAL_OWNER, name="digits", digest="2" * 64, description={}, artifact="", created_at=moment()
    )
    job = JobRecord(
        id=new_id(),
        owner=LOCAL_OWNER,
        name=spec.name,
        status=JobStatus.QUEUED,
        reason=None,
        request=None,
        model_id=model.id,
        dataset_id=dataset.id,
        spec=spec.to_json(),
        profiles={},
        idempotency_key=None,
        request_digest="3" * 64,
        created_at=moment(),
        started_at=None,
        ended_at=None,
        progress=None,
        baseline=None,
        split=None,
        variables=None,
        ranges={},
        resolvable_drop=None,
        spent_s=0.0,
        last_event=0,
        attempts=0,
        lease_owner=None,
        lease_until=None,
        epoch=0,
    )
    with database.write() as connection:
        Models(connection).add(model)
        Datasets(connection).add(dataset)
        Jobs(connection).submit(job)
        found = Leases(connection, seconds=LEASE_S).claim("benchmark")
    if found is None:
        raise RuntimeError("the job could not be claimed")
    return found


if __name__ == "__main__":
    sys.exit(main())
