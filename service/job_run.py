"""One job in the hands of a dispatcher: a driver on Ray at one end, rows at the other."""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.exc import OperationalError

from service.artifacts import ArtifactStore
from service.errors import LeaseLostError
from service.recording import Recorder
from service.settings import Settings
from service.store.database import Database
from service.store.groundwork import groundwork
from service.store.jobs import change
from service.store.leases import Leases
from service.store.records import JobRecord, TrialRecord
from service.store.sensitivities import Sensitivities
from service.store.states import JobStatus, Request
from service.store.trials import Trials
from service.store.uploads import Datasets, Models
from workers import cluster
from workers.cluster import ClusterAwayError, DriverLostError, RunningDriver
from workers.events import Evaluation, Event, Origin, Trial, TrialEnded, TrialStatus
from workers.start import DriverStart

HONOURED = {Request.CANCEL: JobStatus.CANCELLED, Request.PAUSE: JobStatus.PAUSED}
TROUBLE_WAIT_S = 1.0
LONGEST_BACKOFF_S = 10.0
QUIET_S = 10.0  # after so long without news it is worth a look whether anybody is there to make some
NO_CPUS = "waiting: the Ray cluster has no CPUs"
TROUBLE_PATIENCE_S = 6 * 3600.0  # how long the artefact store may be away before the job is given up

logger = logging.getLogger(__name__)


class JobRun:
    """Runs a claimed job in a thread of its own until it ends, is paused, is lost or the dispatcher stops."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        artifacts: ArtifactStore,
        job: JobRecord,
        *,
        evaluators: Callable[[], int],
    ) -> None:
        self.job = job
        self.busy_s = 0.0
        """Seconds that evaluators have worked on the trials that were stored."""
        self._settings = settings
        self._database = database
        self._artifacts = artifacts
        self._evaluators = evaluators
        self._stopping = threading.Event()
        self._driver: RunningDriver | None = None
        self._thread = threading.Thread(target=self._run, name=f"job {job.id}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask the run to give its job back to whoever comes next."""
        self._stopping.set()

    def give_back(self, reason: str) -> None:
        """Give the job back at once, saying what it waits for; the thread may be waiting for a Ray that is gone."""
        self._stopping.set()
        self._driver = None  # it is gone, or ends with this process
        try:
            self._release(None, reason)
        except LeaseLostError as error:
            logger.warning("%s; leaving it alone", error.detail)
        except OperationalError:
            logger.exception("cannot write what job %s waits for; its lease will run out", self.job.id)

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread."""
        self._thread.join(seconds)

    def renew(self) -> None:
        """Renew the lease, whatever the driver does; stop the driver if a user asked for that or the lease is lost."""
        try:
            with self._database.write() as connection:
                job = Leases(connection, seconds=self._settings.lease_seconds).hold(self.job.id, self.job.epoch)
        except LeaseLostError:
            self._stop_driver()
            return
        if job.request is not None:
            self._stop_driver()  # the thread may be waiting for it; it looks at the request next

    def _run(self) -> None:
        try:
            while self._once():
                logger.info("job %s: start %d", self.job.id, self.job.attempts)
        except LeaseLostError as error:
            logger.warning("%s; leaving it alone", error.detail)
        except OperationalError:
            logger.exception(
                "job %s: the database is away; the lease runs out and the job is taken up again", self.job.id
            )
        except Exception as error:  # a job must end, and never take the dispatcher along
            logger.exception("job %s failed", self.job.id)
            self._give_up(f"internal error: {type(error).__name__}: {_cause(error)}")
        finally:
            self._stop_driver()

    def _once(self) -> bool:
        """Run one driver to its end; say whether another one must go on."""
        if self._stopping.is_set():
            self._release(None)
            return False
        if self._honoured():
            return False
        if self.job.attempts > self._settings.max_attempts:
            self._give_up(
                f"given up after {self._settings.max_attempts} starts in a row without a trial that ended; "
                "the log of the service says what the last driver died of"
            )
            return False
        try:
            evaluators = self._evaluators()
            if not evaluators:
                self._wait_for(NO_CPUS)
                return True
            try:
                start, trials = self._read()
            except OSError as error:  # the store is away; that is no failure of the job
                cause = _cause(error)
                logger.warning("job %s: cannot read what it needs: %s; trying again", self.job.id, cause)
                self._wait_for(f"waiting: what the job needs cannot be read ({cause})")
                return True
            recorder = Recorder(
                self._database, self._artifacts, self.job, trials, lease_seconds=self._settings.lease_seconds
            )
            self._driver = RunningDriver(
                start, evaluators=evaluators, memory_bytes=self._settings.evaluator_memory_bytes
            )
            return self._drive(self._driver, recorder)
        except (DriverLostError, ClusterAwayError) as error:
            if self._honoured():
                return False
            self._wait_for_next_start(error)
            return True
        finally:
            self._stop_driver()

    def _drive(self, driver: RunningDriver, recorder: Recorder) -> bool:
        acknowledged, since, trouble_since = 0, time.monotonic(), None
        heard = since
        while not self._stopping.is_set():
            events = driver.advance(acknowledged)
            now = time.monotonic()
            try:
                if events:
                    self.job = recorder.commit([event for _, event in events], spent_s=now - since)
                    acknowledged, since = events[-1][0], now
                    heard = now
                    self.busy_s += sum(_worked_s(event) for _, event in events)
                elif now - heard > QUIET_S:
                    heard = now
                    self._look_for_cpus()
                if self.job.ended or self._honoured(look=not events):
                    return False
                if trouble_since is not None:
                    self._explain(None)
                    trouble_since = None
            except (OperationalError, OSError) as error:
                # What was not committed is not acknowledged: the driver keeps it and gives out nothing new.
                first = trouble_since is None
                trouble_since = trouble_since or now
                if isinstance(error, OSError) and now - trouble_since > TROUBLE_PATIENCE_S:
                    raise
                cause = _cause(error)
                logger.warning("job %s: cannot store what came: %s; trying again", self.job.id, cause)
                if first and isinstance(error, OSError):  # else it is the database, which could not be told
                    self._explain(f"waiting: what was found cannot be stored ({cause})")
                self._stopping.wait(TROUBLE_WAIT_S)
        self._release(None)
        return False

    def _read(self) -> tuple[DriverStart, list[TrialRecord]]:
        with self._database.read() as connection:
            model = Models(connection, self.job.owner).get(self.job.model_id)
            dataset = Datasets(connection, self.job.owner).get(self.job.dataset_id)
            trials = Trials(connection).page(self.job.id)
            sensitivities = Sensitivities(connection).known(self.job)
            pieces = groundwork(connection, self.job.id)
        if model is None or dataset is None:
            raise LookupError("the model or the data set of the job is gone")
        start = DriverStart(
            spec=self.job.spec,
            preprocessing=model.preprocessing,
            graph=_document(self._artifacts.read(model.graph_artifact)),
            weights=self._artifacts.read(model.weights_artifact),
            dataset=self._artifacts.read(dataset.artifact),
            profiles=self.job.profiles,
            trials=tuple(_trial(row) for row in trials),
            packaged=frozenset(row.number for row in trials if row.checkpoint is not None),
            sensitivities=sensitivities,
            groundwork={
                key: self._artifacts.read(digest) for key, digest in pieces.items() if self._artifacts.exists(digest)
            },
            spent_s=self.job.spent_s,
            patience_s=self._settings.evaluation_seconds,
        )
        return start, trials

    def _honoured(self, *, look: bool = True) -> bool:
        """Do what a user asked of the job, if anything; ``look`` reads the row anew."""
        if look:
            with self._database.read() as connection:
                self.job = Leases(connection, seconds=self._settings.lease_seconds).seen(self.job.id, self.job.epoch)
        if self.job.request is None:
            return False
        self._release(HONOURED[Request(self.job.request)])
        return True

    def _release(self, status: JobStatus | None, reason: str | None = None) -> None:
        self._stop_driver()
        with self._database.write() as connection:
            leases = Leases(connection, seconds=self._settings.lease_seconds)
            self.job = leases.release(leases.hold(self.job.id, self.job.epoch), status, reason)

    def _give_up(self, reason: str) -> None:
        try:
            self._release(JobStatus.FAILED, reason)
        except LeaseLostError as error:
            logger.warning("%s; leaving it alone", error.detail)
        except OperationalError:
            logger.exception("cannot write that job %s failed; its lease will run out", self.job.id)

    def _wait_for_next_start(self, error: Exception) -> None:
        """Count a start that came to nothing, and wait the longer the more there were; without Ray it was no start."""
        logger.warning("job %s: %s; starting it again", self.job.id, error)
        if not cluster.answers():
            self._wait_for(f"waiting: Ray does not answer ({_cause(error)})")
            return
        with self._database.write() as connection:
            job = Leases(connection, seconds=self._settings.lease_seconds).hold(self.job.id, self.job.epoch)
            waiting = f"starting again, {job.attempts + 1} of {self._settings.max_attempts}: {_cause(error)}"
            self.job = change(connection, job, {"attempts": job.attempts + 1, "reason": waiting})
        self._stopping.wait(min(2.0 ** (self.job.attempts - 2), LONGEST_BACKOFF_S))

    def _wait_for(self, reason: str) -> None:
        self._explain(reason)
        self._stopping.wait(LONGEST_BACKOFF_S)

    def _look_for_cpus(self) -> None:
        """Say so if nothing happens because the cluster has lost all nodes with a CPU; it may get new ones."""
        reason = None if self._evaluators() else NO_CPUS
        if reason != self.job.reason and NO_CPUS in (reason, self.job.reason):
            self._explain(reason)

    def _explain(self, reason: str | None) -> None:
        """Say at the job what keeps it from going on, or that nothing does any more; the log says it if that fails."""
        try:
            with self._database.write() as connection:
                job = Leases(connection, seconds=self._settings.lease_seconds).hold(self.job.id, self.job.epoch)
                self.job = change(connection, job, {"reason": reason})
        except OperationalError as error:
            logger.warning("job %s: %s; %s", self.job.id, reason, _cause(error))

    def _stop_driver(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            try:
                driver.kill()
            except Exception as error:  # Ray may be gone; then so is the driver
                logger.info("job %s: %s", self.job.id, error)


def _cause(error: Exception) -> str:
    """Return an error in a line, without the paths that those of files tell."""
    return (isinstance(error, OSError) and error.strerror) or (str(error).splitlines() or [type(error).__name__])[0]


def _worked_s(event: Event) -> float:
    """Return how long an evaluator has worked on what is reported."""
    found = event.trial.evaluation if isinstance(event, TrialEnded) else None
    return 0.0 if found is None else sum(found.seconds.get(part, 0.0) for part in ("apply", "forward"))


def _document(data: bytes) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(data)
    return document


def _trial(row: TrialRecord) -> Trial:
    return Trial(
        number=row.number,
        origin=Origin(row.origin),
        label=row.label,
        candidate=row.candidate,
        plan=row.plan,
        status=TrialStatus(row.status),
        evaluation=None if row.evaluation is None else Evaluation.from_json(row.evaluation),
    )
