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

from sqlalchemy.exc import OperationalError

from service.artifacts import ArtifactStore
from service.job_run import JobRun
from service.observability import logs
from service.processes import die_with_parent
from service.retention import remove_ray_sessions, sweep
from service.settings import Settings
from service.store.database import Database
from service.store.dispatchers import all_dispatchers, say
from service.store.leases import Leases
from service.store.records import JobRecord
from workers import cluster

LOOK_S = 0.5
SWEEP_S = 600.0
SAY_S = 10.0
HEARD_S = 2.5 * SAY_S  # who was not heard of for so long is gone, or has other troubles
JOIN_S = 2.0
AWAY_S = 4.0  # a head that does not answer for so long is gone
RENEWALS_PER_LEASE = 3.5
STOP_PATIENCE_S = 8.0

logger = logging.getLogger(__name__)


class Dispatcher:
    """Claims jobs as long as it has places for them, and keeps the leases of those that run."""

    def __init__(self, settings: Settings, database: Database, artifacts: ArtifactStore) -> None:
        self._settings = settings
        self._database = database
        self._artifacts = artifacts
        self._evaluators = 0
        self._silent_since: float | None = None  # the cluster's head
        self._name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._runs: list[JobRun] = []
        self._busy_s = 0.0  # of runs that have ended
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Make ``run`` return soon; may be called from a signal handler."""
        self._stopping.set()

    def join(self) -> None:
        """Join Ray, in the main thread: a local one dies with the thread that started it.

        As long as a cluster is away, that is said at every job that nobody holds.
        """
        while not self._stopping.is_set():
            try:
                connect(self._settings)
                self._evaluators = evaluators_per_job(self._settings)
                self._explain(None)
            except cluster.ClusterAwayError as error:
                logger.warning("%s; trying again", error)
                self._wait_for_cluster(str(error))
            except OperationalError as error:
                logger.warning("the database does not answer: %s", str(error).splitlines()[0])
                self._stopping.wait(JOIN_S)
            else:
                logger.info("dispatching; %d evaluators per job", self._evaluators)
                return

    def run(self) -> bool:
        """Claim and run jobs until told to stop; then give back what runs.

        Returns:
            Whether that was in order: ``False`` if the cluster is gone. Then this process is of no more use: what it
            would ask of Ray waits for a minute and ends it.
        """
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()
        renewed, said = time.monotonic(), -SAY_S
        while not self._stopping.wait(LOOK_S):
            ended = [run for run in self._runs if not run.alive]
            self._busy_s += sum(run.busy_s for run in ended)
            self._runs = [run for run in self._runs if run not in ended]
            try:
                if self._cluster_is_gone():
                    self._leave()
                    return False
                if time.monotonic() - renewed > self._settings.lease_seconds / RENEWALS_PER_LEASE:
                    renewed = time.monotonic()
                    for run in self._runs:
                        run.renew()
                if time.monotonic() - said > SAY_S:
                    said = time.monotonic()
                    self._say()
                while (places := self._places()) and (job := self._claim(places)):
                    self._start(job)
            except OperationalError as error:
                logger.warning("the database does not answer: %s", str(error).splitlines()[0])
            except cluster.ClusterAwayError as error:
                logger.warning("%s", error)
        for run in self._runs:
            run.stop()
        deadline = time.monotonic() + STOP_PATIENCE_S
        for run in self._runs:
            run.join(max(0.0, deadline - time.monotonic()))
        return True

    def _cluster_is_gone(self) -> bool:
        if cluster.node_died():
            return True
        if cluster.answers():
            self._silent_since = None
            return False
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        return now - self._silent_since > AWAY_S

    def _leave(self) -> None:
        """Give all jobs back, with the reason, to whoever joins a cluster next."""
        logger.error("%s; giving %d jobs back", self._away, len(self._runs))
        for run in self._runs:
            run.give_back(f"waiting: {self._away}")
        self._say(self._away)

    def _wait_for_cluster(self, state: str) -> None:
        try:
            self._say(state)
            with self._database.read() as connection:
                others = [row for row in all_dispatchers(connection) if row.ray == "ok" and row.age_s < HEARD_S]
            if not others:
                self._explain(f"waiting: {state}")
        except OperationalError as error:
            logger.warning("the database does not answer: %s", str(error).splitlines()[0])
        self._stopping.wait(JOIN_S)

    def _explain(self, reason: str | None) -> None:
        with self._database.write() as connection:
            Leases(connection, seconds=self._settings.lease_seconds).explain_free(reason)

    @property
    def _away(self) -> str:
        return f"the Ray cluster{self._settings.ray_address and f' at {self._settings.ray_address}'} does not answer"

    def _say(self, state: str | None = None) -> None:
        if state is None:
            state = "ok" if cluster.answers() else self._away
        if state == "ok":
            self._evaluators = evaluators_per_job(self._settings)
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
        while not self._stopping.is_set():
            try:
                sweep(self._settings, self._database, self._artifacts)
                remove_ray_sessions(cluster.temporary_folder())
            except Exception:  # there is always a next time
                logger.exception("cannot remove what was kept long enough")
            self._stopping.wait(SWEEP_S)

    def _places(self) -> int:
        """Return how many more jobs this dispatcher may take: none from a cluster that may be gone."""
        if self._silent_since is not None:
            return 0
        return max(0, self._settings.concurrent_jobs - len(self._runs))

    def _claim(self, places: int) -> JobRecord | None:
        with self._database.write() as connection:
            return Leases(connection, seconds=self._settings.lease_seconds).claim(self._name, places=places)

    def _start(self, job: JobRecord) -> None:
        logger.info("job %s (%s): start %d under epoch %d", job.id, job.status, job.attempts, job.epoch)
        run = JobRun(
            self._settings, self._database, self._artifacts, job, evaluators=lambda: evaluators_per_job(self._settings)
        )
        self._runs.append(run)
        run.start()


def connect(settings: Settings) -> None:
    """Join Ray.

    A local Ray is told of as many CPUs as all jobs together would like, so that a job alone uses the whole machine and
    several share it by the operating system's scheduler.
    """
    if settings.ray_address:
        cluster.connect(settings.ray_address)
    else:
        cluster.connect(cpus=cluster.usable_cpus() * settings.concurrent_jobs)


def evaluators_per_job(settings: Settings) -> int:
    """Return how many evaluators each job gets: on a cluster, its part of the CPUs that are there now, if any."""
    if not settings.ray_address:
        return cluster.usable_cpus()
    cpus = cluster.cluster_cpus()
    return min(cpus, max(1, cpus // settings.concurrent_jobs))


def main() -> None:
    """Run a dispatcher until SIGTERM or SIGINT, or until the process that started it is gone."""
    die_with_parent()
    settings = Settings()
    logs.start(settings.log_format)
    database = Database(settings.database_url)
    dispatcher = Dispatcher(settings, database, ArtifactStore(settings.artifacts_url))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: dispatcher.stop())
    dispatcher.join()
    in_order = False
    try:
        in_order = dispatcher.run()
    except Exception:
        logger.exception("dispatching failed")
    finally:
        database.close()
        if not in_order:
            os._exit(1)  # leaving a cluster that is gone takes a minute; who supervises this starts it again
        cluster.disconnect()


if __name__ == "__main__":
    main()
