"""Jobs with trials, written as a dispatcher would."""

from service.recording import Recorder
from service.store.leases import Leases
from service.store.records import JobRecord
from tests.service.api.conftest import Running
from workers.events import Event, JobEnded, Progress


class Dispatcher:
    """Claims one job of a running service and reports what a driver would."""

    def __init__(self, running: Running, job_id: str) -> None:
        self._running = running
        database = running.services.database
        with database.write() as connection:
            leases = Leases(connection, seconds=60)
            claimed = list(iter(lambda: leases.claim("test"), None))
            job = next(job for job in claimed if job.id == job_id)
            for other in claimed:
                if other.id != job_id:
                    leases.release(other)
        self.job: JobRecord = job
        self._recorder = Recorder(database, running.services.artifacts, job, [], lease_seconds=60)

    def report(self, *events: Event) -> None:
        self.job = self._recorder.commit(events)

    def progress(self, done: int, total: int) -> None:
        self.report(Progress(done=done, total=total, seconds_left=1.0))

    def end(self, status: str = "done") -> None:
        self.report(JobEnded(status=status))
