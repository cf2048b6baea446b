"""The tables. Everything belongs to an ``owner``; as long as there are no tokens that is ``local``.

Candidates, plans, evaluations and descriptions are JSON documents with their own schema versions; a column stands
beside them where a query needs it.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import BigInteger, TypeDecorator

LOCAL_OWNER = "local"
DOCUMENT = JSON(none_as_null=True)  # None is SQL's NULL, not the document `null`

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING_CONVENTION)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, always in UTC; SQLite stores no zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn any aware moment into UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Mark what comes back as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


models = Table(
    "models",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("digest", String(64), nullable=False),  # of the upload and of everything said about it
    Column("format", String(32), nullable=False),  # "onnx" or an architecture's name
    Column("task", String(32), nullable=False),
    Column("preprocessing", DOCUMENT, nullable=False),
    Column("description", DOCUMENT, nullable=False),
    Column("source_artifact", String(64), nullable=False),
    Column("graph_artifact", String(64), nullable=False),
    Column("weights_artifact", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("owner", "digest"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("description", DOCUMENT, nullable=False),
    Column("artifact", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("owner", "digest"),
)

devices = Table(
    "devices",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("name", String(100), nullable=False),
    Column("profile", DOCUMENT, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("owner", "name"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text),
    Column("request", String(16)),  # what a user wants of the dispatcher that holds the job
    Column("model_id", ForeignKey("models.id"), nullable=False),
    Column("dataset_id", ForeignKey("datasets.id"), nullable=False),
    Column("spec", DOCUMENT, nullable=False),
    Column("profiles", DOCUMENT, nullable=False),  # as they were at submission: a job must not change with a profile
    Column("idempotency_key", String(200)),
    Column("request_digest", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("progress", DOCUMENT),
    Column("trial_counts", DOCUMENT),  # {status: trials}; none: a dispatcher of before keeps no count
    Column("baseline", DOCUMENT),
    Column("split", DOCUMENT),
    Column("variables", DOCUMENT),
    Column("ranges", DOCUMENT, nullable=False),
    Column("resolvable_drop", Double),
    Column("spent_s", Double, nullable=False),  # that dispatchers have spent on it
    Column("last_event", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),  # starts since a trial last ended
    Column("lease_owner", String(64)),
    Column("lease_until", Double),  # seconds since 1970 on the database's clock
    Column("epoch", Integer, nullable=False),
    UniqueConstraint("owner", "idempotency_key"),
    Index(None, "owner", "status", "id"),
    Index(None, "status", "lease_until"),
)

trials = Table(
    "trials",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("origin", String(16), nullable=False),
    Column("label", String(100), nullable=False),
    Column("status", String(16), nullable=False),
    Column("candidate", DOCUMENT, nullable=False),
    Column("plan", DOCUMENT, nullable=False),
    Column("evaluation", DOCUMENT),
    Column("checkpoint", DOCUMENT),  # {verified, verification, files: {name: {digest, bytes}}}
    Column("verified", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    PrimaryKeyConstraint("job_id", "number"),
    Index(None, "job_id", "status"),
    Index(None, "job_id", "origin"),
    Index(None, "job_id", "verified"),
)

front_points = Table(
    "front_points",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("device", String(100), nullable=False),
    Column("axis", String(32), nullable=False),  # the cost that is traded against the accuracy
    Column("number", Integer, nullable=False),
    PrimaryKeyConstraint("job_id", "device", "axis", "number"),
)

front_totals = Table(
    "front_totals",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("device", String(100), nullable=False),
    Column("measured", Integer, nullable=False),
    Column("feasible", Integer, nullable=False),
    Column("dearest", DOCUMENT, nullable=False),  # {cost: its largest value}
    PrimaryKeyConstraint("job_id", "device"),
)

events = Table(
    "events",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("data", DOCUMENT, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("job_id", "sequence"),
)

artifact_uses = Table(
    "artifact_uses",
    metadata,
    Column("digest", String(64), nullable=False),
    Column("holder", String(32), nullable=False),  # the model, data set or job that names the artefact
    Column("owner", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    PrimaryKeyConstraint("digest", "holder"),
    Index(None, "holder"),
    Index(None, "owner"),
)

dispatchers = Table(
    "dispatchers",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("evaluators", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    Column("ray", String(200), nullable=False),  # "ok", or what is wrong
    Column("busy_s", Double, nullable=False, server_default="0"),  # that evaluators have worked on trials for it
    Column("seen_at", Double, nullable=False),  # seconds since 1970 on the database's clock
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("digest", String(64), nullable=False),  # of the secret, which is kept nowhere
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("token_id", String(32), ForeignKey("tokens.id", ondelete="CASCADE"), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "token_id"),
    Index(None, "expires_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("owner", String(64)),  # none: nobody whom the service knows
    Column("token_id", String(32)),
    Column("address", String(64), nullable=False),
    Column("method", String(16), nullable=False),
    Column("path", String(200), nullable=False),
    Column("status", Integer, nullable=False),
)
