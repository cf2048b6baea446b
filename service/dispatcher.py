"""Runs queued jobs: ``python -m service.dispatcher``.

The only writer of what jobs find. Any number of dispatchers may share a database.
"""

import logging
import os
import secrets
import signal
import socket
import threading
import time

import ray
from sqlalchemy.exc import OperationalError

from service.artifacts import ArtifactStore
from service.job_run import JobRun
from service.observability import logs
from service.processes import die_with_parent
from service.retention import remove_ray_sessions, sweep
from service.settings import Settings
from service.store.database import Database
from service.store.dispatchers import say
from service.store.leases import Leases
from service.store.records import JobRecord
from workers import cluster

LOOK_S = 0.5
SWEEP_S = 600.0
SAY_S = 10.0
RENEWALS_PER_LEASE = 3.5
STOP_PATIENCE_S = 8.0

logger = logging.getLogger(__name__)


class Dispatcher:
    """Claims jobs as long as it has places for them, and keeps the leases of those that run."""

    def __init__(self, settings: Settings, database: Database, artifacts: ArtifactStore, *, evaluators: int) -> None:
        self._settings = settings
        self._database = database
        self._artifacts = artifacts
        self._evaluators = evaluators
        self._name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._runs: list[JobRun] = []
        self._busy_s = 0.0  # of runs that have ended
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Make ``run`` return soon; may be called from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Claim and run jobs until told to stop; then give back what runs."""
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()
        renewed, said = time.monotonic(), -SAY_S
        while not self._stopping.wait(LOOK_S):
            ended = [run for run in self._runs if not run.alive]
            self._busy_s += sum(run.busy_s for run in ended)
            self._runs = [run for run in self._runs if run not in ended]
            try:
                if time.monotonic() - renewed > self._settings.lease_seconds / RENEWALS_PER_LEASE:
                    renewed = time.monotonic()
                    for run in self._runs:
                        run.renew()
                if time.monotonic() - said > SAY_S:
                    said = time.monotonic()
                    self._say()
                while len(self._runs) < self._settings.concurrent_jobs and (job := self._claim()):
                    self._start(job)
            except OperationalError as error:
                logger.warning("the database does not answer: %s", str(error).splitlines()[0])
        for run in self._runs:
            run.stop()
        deadline = time.monotonic() + STOP_PATIENCE_S
        for run in self._runs:
            run.join(max(0.0, deadline - time.monotonic()))

    def _say(self) -> None:
        state = "ok" if ray.is_initialized() else "Ray is not joined"
        with self._database.write() as connection:
            say(
                connection,
                self._name,
                evaluators=self._evaluators,
                running=len(self._runs),
                ray=state,
                busy_s=self._busy(),
            )

    def _busy(self) -> float:
        """Return the seconds that evaluators have worked on trials since this dispatcher started."""
        return self._busy_s + sum(run.busy_s for run in self._runs)

    def _sweep(self) -> None:
        while True:
            try:
                sweep(self._settings, self._database, self._artifacts)
                remove_ray_sessions()
            except Exception:  # there is always a next time
                logger.exception("cannot remove what was kept long enough")
            if self._stopping.wait(SWEEP_S):
                return

    def _claim(self) -> JobRecord | None:
        with self._database.write() as connection:
            return Leases(connection, seconds=self._settings.lease_seconds).claim(self._name)

    def _start(self, job: JobRecord) -> None:
        logger.info("job %s (%s): start %d under epoch %d", job.id, job.status, job.attempts, job.epoch)
        run = JobRun(self._settings, self._database, self._artifacts, job, evaluators=self._evaluators)
        self._runs.append(run)
        run.start()


def evaluators_per_job(settings: Settings) -> int:
    """Join Ray and return how many evaluators each job gets.

    A local Ray is told of as many CPUs as all jobs together would like, so that a job alone uses the whole machine and
    several share it by the operating system's scheduler. On a cluster each job gets its part.
    """
    if settings.ray_address:
        cluster.connect(settings.ray_address)
        return max(1, cluster.cluster_cpus() // settings.concurrent_jobs)
    cpus = cluster.usable_cpus()
    cluster.connect(cpus=cpus * settings.concurrent_jobs)
    return cpus


def main() -> None:
    """Run a dispatcher until SIGTERM or SIGINT, or until the process that started it is gone."""
    die_with_parent()
    settings = Settings()
    logs.start(settings.log_format)
    database = Database(settings.database_url)
    evaluators = evaluators_per_job(settings)  # in the main thread: a local Ray dies with the thread that started it
    dispatcher = Dispatcher(settings, database, ArtifactStore(settings.artifacts_url), evaluators=evaluators)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: dispatcher.stop())
    logger.info("dispatching; %d evaluators per job", evaluators)
    try:
        dispatcher.run()
    finally:
        cluster.disconnect()
        database.close()


if __name__ == "__main__":
    main()
