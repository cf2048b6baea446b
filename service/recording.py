"""What a driver reports, turned into rows: one transaction per batch of events, fenced by the job's lease."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from service.artifacts import Artifact, ArtifactStore
from service.front_keeper import FrontKeeper
from service.fronts import Measured, first_cost, measured
from service.store import groundwork, sensitivities
from service.store.artifact_uses import ArtifactUses
from service.store.database import Database
from service.store.events import Events
from service.store.identifiers import trial_id
from service.store.jobs import change, change_status
from service.store.leases import Leases
from service.store.records import JobRecord, TrialRecord
from service.store.states import JobStatus
from service.store.trials import Trials
from workers.events import (
    CheckpointReady,
    Event,
    GroundworkDone,
    JobEnded,
    Prepared,
    Progress,
    SensitivityMeasured,
    StatusChanged,
    Trial,
    TrialEnded,
    TrialStarted,
    TrialStatus,
)
from workers.spec import JobSpec

logger = logging.getLogger(__name__)

Entry = tuple[str, dict[str, Any]]
Files = Mapping[str, Artifact]


class Recorder:
    """Writes the events of one job under one lease; what is committed may be acknowledged.

    Artefacts are stored before the transaction that names them: a crash in between leaves a file that nothing names,
    never a name without its file.
    """

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        job: JobRecord,
        trials: Sequence[TrialRecord],
        *,
        lease_seconds: float,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._job_id, self._epoch = job.id, job.epoch
        self._lease_seconds = lease_seconds
        spec = JobSpec.from_json(job.spec)
        self._axis = first_cost(spec)
        self._fronts = FrontKeeper(job.id, [target.name for target in spec.devices], measured(trials))
        self._running = {trial.number for trial in trials if trial.status == TrialStatus.RUNNING}
        self._counts = Counter(str(trial.status) for trial in trials)

    def commit(self, events: Sequence[Event], *, spent_s: float = 0.0) -> JobRecord:
        """Write a batch and return the job as it then is.

        Raises:
            LeaseLostError: Another dispatcher has taken the job over; nothing was written.
        """
        running, counts = set(self._running), Counter(self._counts)
        try:
            job = self._write(events, spent_s)
        except Exception:
            self._fronts.rolled_back()
            self._running, self._counts = running, counts
            raise
        self._fronts.committed()
        return job

    def _write(self, events: Sequence[Event], spent_s: float) -> JobRecord:
        stored = {event.number: self._store(event) for event in events if isinstance(event, CheckpointReady)}
        pieces = {
            event.key: self._artifacts.store_bytes(event.content)
            for event in events
            if isinstance(event, GroundworkDone)
        }
        with self._database.write() as connection:
            leases = Leases(connection, seconds=self._lease_seconds)
            if stored or pieces:
                ArtifactUses(connection).lock()
            job = leases.hold(self._job_id, self._epoch)
            entries: list[Entry] = []
            columns: dict[str, Any] = {"spent_s": job.spent_s + spent_s}
            for event in events:
                if isinstance(event, StatusChanged):
                    job = self._change_status(connection, job, entries, JobStatus(event.status))
                elif isinstance(event, Prepared):
                    columns |= _prepared(event)
                    entries.append(("prepared", _announced(event)))
                elif isinstance(event, SensitivityMeasured):
                    entries.append(sensitivities.entry(event.rows))
                elif isinstance(event, GroundworkDone):
                    self._name(connection, job, [pieces[event.key]])
                    entries.append(groundwork.entry(event.key, pieces[event.key]))
                elif isinstance(event, TrialStarted | TrialEnded):
                    entries += self._trial(connection, event.trial)
                    if isinstance(event, TrialEnded):
                        columns |= {"attempts": 0, "reason": None}  # whatever it waited for is over
                elif isinstance(event, Progress):
                    columns["progress"] = asdict(event)
                elif isinstance(event, CheckpointReady):
                    entries.append(self._checkpoint(connection, job, event, stored[event.number]))
            if "progress" in columns:
                entries.append(("progress", columns["progress"]))
            self._fronts.write(connection)
            columns["trial_counts"] = {status: count for status, count in self._counts.items() if count}
            job = change(connection, job, columns)
            Events(connection).append(job.id, entries)
            ending = next((event for event in events if isinstance(event, JobEnded)), None)
            if ending is not None:
                job = leases.release(job, JobStatus(ending.status), ending.reason)
        return job

    def _change_status(
        self, connection: Connection, job: JobRecord, entries: list[Entry], status: JobStatus
    ) -> JobRecord:
        Events(connection).append(job.id, entries)  # what came before the change stands before it
        entries.clear()
        return change_status(connection, job, status)

    def _trial(self, connection: Connection, trial: Trial) -> list[Entry]:
        trials = Trials(connection)
        if not trials.save(self._job_id, trial):
            return []  # reported twice
        self._count(trial)
        found = trial.evaluation
        level = logging.WARNING if trial.status is TrialStatus.FAILED else logging.DEBUG
        reason = "" if found is None or found.error is None else f": {found.error}"
        ids = {"job": self._job_id, "trial": trial.number}
        logger.log(level, "job %s, trial %d: %s%s", self._job_id, trial.number, trial.status, reason, extra=ids)
        entry: Entry = (
            "trial",
            {
                "id": trial_id(self._job_id, trial.number),
                "number": trial.number,
                "origin": trial.origin,
                "label": trial.label,
                "status": trial.status,
                "accuracy": None if found is None else found.accuracy,
                "error": None if found is None else found.error,
                "feasible": {} if found is None else {name: costs.feasible for name, costs in found.costs.items()},
            },
        )
        stored = trials.get(self._job_id, trial.number) if trial.status is TrialStatus.DONE else None
        rows = [] if stored is None else measured([stored])
        return [
            entry,
            *(("front", {"device": name, "id": row.record.id}) for row in rows for name in self._joined(row)),
        ]

    def _count(self, trial: Trial) -> None:
        if trial.number in self._running:
            self._counts[TrialStatus.RUNNING] -= 1
        self._counts[trial.status] += 1
        (self._running.add if trial.status is TrialStatus.RUNNING else self._running.discard)(trial.number)

    def _joined(self, row: Measured) -> list[str]:
        """Return the devices whose front, along the job's first cost, a trial has joined."""
        return [device for device, axis in self._fronts.add(row) if axis == self._axis]

    def _store(self, event: CheckpointReady) -> Files:
        return {name: self._artifacts.store_bytes(content) for name, content in event.files.items()}

    def _checkpoint(self, connection: Connection, job: JobRecord, event: CheckpointReady, files: Files) -> Entry:
        self._name(connection, job, files.values())
        plain = {name: asdict(file) for name, file in files.items()}
        checkpoint = {"verified": event.verified, "verification": dict(event.verification), "files": plain}
        Trials(connection).save_checkpoint(self._job_id, event.number, checkpoint, verified=event.verified)
        identifier = trial_id(self._job_id, event.number)
        return "checkpoint", {"id": identifier, "number": event.number, "verified": event.verified}

    def _name(self, connection: Connection, job: JobRecord, files: Collection[Artifact]) -> None:
        """Say that the job needs these artefacts, which have just been stored."""
        if not all(self._artifacts.exists(file.digest) for file in files):
            raise OSError("an artefact was removed meanwhile with its last user")  # the batch is tried again
        ArtifactUses(connection).add(job.owner, job.id, files)


def _announced(event: Prepared) -> dict[str, Any]:
    return {
        "accuracy": event.baseline.accuracy,
        "split": dict(event.split),
        "signal": event.signal,
        "warning": event.warning,
    }


def _prepared(event: Prepared) -> dict[str, Any]:
    return {
        "baseline": event.baseline.to_json(),
        "split": dict(event.split),
        "variables": {name: list(choices) for name, choices in event.variables.items()},
        "ranges": {device: {cost: dict(row) for cost, row in rows.items()} for device, rows in event.ranges.items()},
        "resolvable_drop": event.resolvable_drop,
    }
