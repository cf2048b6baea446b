"""Rows that tests begin with."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from service.store.identifiers import new_id
from service.store.jobs import Jobs
from service.store.records import DatasetRecord, JobRecord, ModelRecord
from service.store.rows import moment
from service.store.states import JobStatus
from service.store.tables import LOCAL_OWNER
from service.store.uploads import Datasets, Models
from workers.events import Origin, Trial, TrialStatus

MODEL = ModelRecord(
    id="m" * 32,
    owner=LOCAL_OWNER,
    name="digits",
    digest="1" * 64,
    format="onnx",
    task="classification",
    preprocessing={},
    description={"parameters": 3},
    source_artifact="2" * 64,
    graph_artifact="3" * 64,
    weights_artifact="4" * 64,
    created_at=moment(),
)
DATASET = DatasetRecord(
    id="d" * 32,
    owner=LOCAL_OWNER,
    name="digits",
    digest="5" * 64,
    description={"images": 10},
    artifact="6" * 64,
    created_at=moment(),
)


def job(*, key: str | None = None, digest: str = "7" * 64, spec: Mapping[str, Any] | None = None) -> JobRecord:
    return JobRecord(
        id=new_id(),
        owner=LOCAL_OWNER,
        name="small",
        status=JobStatus.QUEUED,
        reason=None,
        request=None,
        model_id=MODEL.id,
        dataset_id=DATASET.id,
        spec=spec or {"seed": 0},
        profiles={},
        idempotency_key=key,
        request_digest=digest,
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


def submitted(connection: Connection, record: JobRecord | None = None) -> JobRecord:
    Models(connection).add(MODEL)
    Datasets(connection).add(DATASET)
    return Jobs(connection).submit(record or job())[0]


def trial(number: int, status: TrialStatus = TrialStatus.RUNNING) -> Trial:
    return Trial(
        number=number,
        origin=Origin.SEARCH,
        label="",
        candidate={"schema_version": 1, "indices": [number]},
        plan={"schema_version": 1},
        status=status,
    )


def renamed(record: ModelRecord) -> ModelRecord:
    return replace(record, id=new_id(), name="again")
