"""How do trials per second grow with evaluators, and does the driver keep many of them busy?

First, searches of the digits example on a local Ray with one and with two evaluators. Then a search whose evaluations
only wait a second, in many slots of few actors: the possible rate is that of slots which never stand idle. Both go
through the real driver and the service's own store on SQLite, as a dispatcher does. A rate is that of the trials that
end between the first and the last of the measured stretch; what comes before (starting, filling the slots) is left out.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import ray

from benchmarks import common
from benchmarks.overhead import claimed
from benchmarks.searching import start_payload
from service.artifacts import ArtifactStore
from service.recording import Recorder
from service.store.database import Database
from service.store.migrate import upgrade_to_head
from workers import cluster
from workers.driver import Driver
from workers.early_stopping import pack
from workers.evaluator import Evaluator, Measurement
from workers.events import Event, JobEnded, StatusChanged, TrialEnded
from workers.job import JobData
from workers.pool import RayPool
from workers.spec import Budget, DeviceTarget, JobSpec, SpaceSpec

SLOTS, ACTORS, EVALUATION_S = 64, 4, 1.0
POSSIBLE = SLOTS / EVALUATION_S
LEAST_SHARE = 0.9
LEASE_S = 3600.0


class Drives(Protocol):
    """What reports events."""

    def advance(self, acknowledged: int) -> Any:
        """Return the events after ``acknowledged``."""


def main() -> int:
    """Print the tables; return 1 if the simulated slots stand idle too long."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--trials", type=int, default=80, help="trials of each real search (80)")
    arguments.add_argument("--simulated", type=int, default=800, help="trials of the simulated search (800)")
    arguments.add_argument("--strategy", default="random", help="of all searches (random)")
    options = arguments.parse_args()
    cluster.connect(cpus=2 + ACTORS)
    try:
        real = {count: real_rate(count, options.trials, options.strategy) for count in (1, 2)}
        simulated = simulated_rate(options.simulated, options.strategy)
    finally:
        cluster.disconnect()
    rows = [(f"{count} evaluators", rate, rate / real[1]) for count, rate in real.items()]
    common.print_table("digits, real evaluations", ("", "trials/s", "times one evaluator"), rows)
    share = simulated / POSSIBLE
    common.print_table(
        f"{SLOTS} simulated slots in {ACTORS} actors, {EVALUATION_S:g} s an evaluation",
        ("trials/s", "possible", "share"),
        [(simulated, POSSIBLE, share)],
    )
    figures = {"trials_per_s": real, "simulated_trials_per_s": simulated, "possible": POSSIBLE, "share": share}
    common.report("scaling", figures, path=options.json)
    return int(share < LEAST_SHARE)


def real_rate(evaluators: int, trials: int, strategy: str) -> float:
    """Return the trials per second of a search with so many evaluators."""
    spec = job(trials, strategy)
    driver = cluster.RunningDriver(start_payload(spec), evaluators=evaluators)
    try:
        return rate(driver, spec, skip=2 * evaluators)
    finally:
        driver.kill()


def simulated_rate(trials: int, strategy: str) -> float:
    """Return the trials per second of a search whose evaluations only wait, the driver in a process of its own."""
    spec = job(trials, strategy)
    driver: Any = ray.remote(_SimulatedDriver).options(num_cpus=0).remote(start_payload(spec))

    class Remote:
        def advance(self, acknowledged: int) -> Any:
            return ray.get(driver.advance.remote(acknowledged))

    return rate(Remote(), spec, skip=2 * SLOTS)


def rate(driver: Drives, spec: JobSpec, *, skip: int) -> float:
    """Drive a search to its end, storing everything; return the rate of the trials after the first ``skip``."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'tightfit.db'}")
        upgrade_to_head(database)
        store = ArtifactStore(Path(folder).as_uri())
        recorder = Recorder(database, store, claimed(database, spec), [], lease_seconds=LEASE_S)
        ended: list[float] = []
        acknowledged = 0
        while True:
            events: list[tuple[int, Event]] = driver.advance(acknowledged)
            now = time.perf_counter()
            if not events:
                continue
            for _, event in events:
                if isinstance(event, JobEnded):
                    raise RuntimeError(f"the job ended early: {event.reason}")
                if isinstance(event, TrialEnded):
                    ended.append(now)
            if any(event == StatusChanged(status="packaging") for _, event in events):
                database.close()
                # The last ones end while slots run empty: they say nothing of the rate.
                kept = ended[skip : len(ended) - skip // 2]
                return (len(kept) - 1) / (kept[-1] - kept[0])
            recorder.commit([event for _, event in events])
            acknowledged = events[-1][0]


def job(trials: int, strategy: str) -> JobSpec:
    """Return the job that all searches run."""
    return JobSpec(
        name="scaling",
        devices=(DeviceTarget(name="raspberry-pi-4"),),
        space=SpaceSpec(operators=("original", "skip")),
        budget=Budget(trials=trials),
        strategy=strategy,
        early_stopping=False,
        imitation_steps=0,
    )


class _SimulatedDriver:
    """The real driver with slots that wait."""

    def __init__(self, start: Any) -> None:
        make_pool: Callable[[JobData], Any] = WaitingPool
        self._driver = Driver(start, make_pool)

    def advance(self, acknowledged: int) -> Any:
        return self._driver.advance(acknowledged)


class _WaitingActor:
    """Holds many slots: their calls wait side by side."""

    def __init__(self, job: JobData) -> None:
        self._images = len(job.split.search)
        self._job = job

    async def call(self, method: str, arguments: dict[str, Any]) -> Any:
        if method == "rank":  # once per job, before the search
            evaluator = Evaluator(self._job)
            evaluator.prepare()
            return evaluator.rank(**arguments)
        wait_s = EVALUATION_S if method == "evaluate" else 0.0
        await asyncio.sleep(wait_s)
        return Measurement(
            correct=self._images - 5,
            images=self._images,
            divergence=0.1,
            drop_bound=0.02,
            right=pack(np.ones(self._images, dtype=bool)),
            stopped=False,
            seconds={"apply": 0.0, "forward": wait_s},
        )


class WaitingPool(RayPool):
    """``SLOTS`` slots in ``ACTORS`` actors, whose evaluations take no processor."""

    def __init__(self, job: JobData) -> None:
        actor = ray.remote(_WaitingActor).options(num_cpus=1, max_concurrency=SLOTS)
        self._hosts = [actor.remote(job) for _ in range(ACTORS)]
        super().__init__(job, size=SLOTS)

    def _new_actor(self, slot: int) -> Any:
        return self._hosts[slot % ACTORS]

    def close(self) -> None:
        """Forget the calls; the actors end with the driver."""
        self._calls.clear()


if __name__ == "__main__":
    sys.exit(main())
