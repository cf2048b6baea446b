"""Rows as the rest of the service sees them. JSON columns stay plain data; their packages know how to read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.store.identifiers import trial_id
from service.store.states import ENDED, JobStatus

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """An ingested network. The three artefacts are the upload as it came, the graph (JSON) and its tensors."""

    id: str
    owner: str
    name: str
    digest: str
    format: str
    task: str
    preprocessing: Json
    description: Json
    source_artifact: str
    graph_artifact: str
    weights_artifact: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecord:
    """An ingested data set; the artefact is a safetensors file with ``x`` and ``y``."""

    id: str
    owner: str
    name: str
    digest: str
    description: Json
    artifact: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """A custom device profile."""

    id: str
    owner: str
    name: str
    profile: Json
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """What lists show of a job: none of its long documents, and of its ``spec`` two keys."""

    id: str
    name: str
    status: str
    reason: str | None
    model_id: str
    dataset_id: str
    devices: Sequence[Json]
    data_free: bool | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: Json | None
    trial_counts: Mapping[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job. ``spec`` is ``workers.spec.JobSpec`` as JSON."""

    id: str
    owner: str
    name: str
    status: JobStatus
    reason: str | None
    request: str | None
    model_id: str
    dataset_id: str
    spec: Json
    profiles: Json
    idempotency_key: str | None
    request_digest: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: Json | None
    baseline: Json | None
    split: Json | None
    variables: Json | None
    ranges: Json
    resolvable_drop: float | None
    spent_s: float
    last_event: int
    attempts: int
    lease_owner: str | None
    lease_until: float | None
    epoch: int
    trial_counts: Mapping[str, int] | None = None

    @property
    def devices(self) -> Sequence[Json]:
        """Its devices with their limits."""
        devices: Sequence[Json] = self.spec["devices"]
        return devices

    @property
    def data_free(self) -> bool | None:
        """Whether it searches without data; nothing in jobs of before that could be asked for."""
        return self.spec.get("data_free")

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """A trial. ``evaluation`` is ``workers.events.Evaluation`` as JSON."""

    job_id: str
    number: int
    origin: str
    label: str
    status: str
    candidate: Json
    plan: Json
    evaluation: Json | None
    checkpoint: Json | None
    verified: bool
    created_at: datetime
    ended_at: datetime | None

    @property
    def id(self) -> str:
        """Identifier under which the API knows the trial."""
        return trial_id(self.job_id, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """Something that happened to a job; ``sequence`` counts from 1 within the job."""

    job_id: str
    sequence: int
    kind: str
    data: Json
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token without its secret. ``scope`` is one of ``service.access.principal.Scope``."""

    id: str
    owner: str
    name: str
    scope: str
    digest: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def usable(self, now: datetime) -> bool:
        """Whether the token opens anything at a moment."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """A request that changed something or was refused: who, when, from where, what, and with which answer."""

    id: str
    at: datetime
    owner: str | None
    token_id: str | None
    address: str
    method: str
    path: str
    status: int
