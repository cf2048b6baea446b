"""What an operator sets. Built once, by ``main``, and passed down; nothing below reads the environment."""

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

KIB, MIB, GIB = 2**10, 2**20, 2**30
LEAST_EVALUATOR_BYTES = GIB


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Settings(BaseSettings):
    """Read from the environment under the names below; the defaults need nothing installed or started."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    home: Path = Field(default=Path("~/.tightfit"), validation_alias="TIGHTFIT_HOME")
    """Where the embedded database, artefacts and temporary files live."""
    database_url: str = Field(default="", validation_alias="DATABASE_URL")
    """SQLAlchemy URL; SQLite under ``home`` if empty."""
    artifacts_url: str = Field(default="", validation_alias="TIGHTFIT_ARTIFACTS")
    """fsspec URL of the artefact store; a folder under ``home`` if empty."""
    ray_address: str = Field(default="", validation_alias="RAY_ADDRESS")
    """Ray cluster to join; a local one is started if empty."""
    host: str = Field(default="127.0.0.1", validation_alias="TIGHTFIT_HOST")
    allowed_hosts: str = Field(default="", validation_alias="TIGHTFIT_ALLOWED_HOSTS")
    """Names besides loopback, separated by commas, under which browsers may reach the service."""
    port: int = Field(default=8321, ge=0, le=65535, validation_alias="TIGHTFIT_PORT")

    max_upload_bytes: PositiveInt = Field(default=1 * GIB, validation_alias="TIGHTFIT_MAX_UPLOAD_BYTES")
    max_unpacked_bytes: PositiveInt = Field(default=4 * GIB, validation_alias="TIGHTFIT_MAX_UNPACKED_BYTES")
    """What an archive of data may unpack to, and the longest file that ingestion may write."""
    max_body_bytes: PositiveInt = Field(default=4 * MIB, validation_alias="TIGHTFIT_MAX_BODY_BYTES")
    """Longest JSON body (uploads have their own limit)."""
    owner_jobs: PositiveInt = Field(default=200, validation_alias="TIGHTFIT_OWNER_JOBS")
    """Jobs of one owner that may wait or run."""
    owner_kept_jobs: PositiveInt = Field(default=100_000, validation_alias="TIGHTFIT_OWNER_KEPT_JOBS")
    """Jobs of one owner that are stored, ended ones too."""
    owner_devices: PositiveInt = Field(default=500, validation_alias="TIGHTFIT_OWNER_DEVICES")
    """Device profiles that one owner may add."""
    owner_bytes: PositiveInt = Field(default=100 * GIB, validation_alias="TIGHTFIT_OWNER_BYTES")
    """What the models, data sets and checkpoints of one owner may take."""
    retention_days: float = Field(default=0.0, ge=0.0, validation_alias="TIGHTFIT_RETENTION_DAYS")
    """Jobs that ended longer ago are removed, and uploads of that age that no job uses; 0 keeps everything."""
    audit_days: float = Field(default=365.0, ge=0.0, validation_alias="TIGHTFIT_AUDIT_DAYS")
    """How long the audit log is kept; 0 keeps it forever."""
    log_format: Literal["text", "json"] = Field(default="text", validation_alias="TIGHTFIT_LOG")
    requests_per_second: PositiveFloat = Field(default=100.0, validation_alias="TIGHTFIT_REQUESTS_PER_SECOND")
    """Requests a second in the long run by one token; five seconds' worth may come at once."""
    ingest_seconds: PositiveFloat = Field(default=120.0, validation_alias="TIGHTFIT_INGEST_SECONDS")
    """Longest time that one upload may be parsed, by the clock and by the processor."""
    ingest_memory_bytes: PositiveInt = Field(default=4 * GIB, validation_alias="TIGHTFIT_INGEST_MEMORY_BYTES")
    """Memory that parsing one upload may take beyond what the preloaded process already holds."""
    ingest_concurrency: PositiveInt = Field(default=2, validation_alias="TIGHTFIT_INGEST_CONCURRENCY")

    concurrent_jobs: PositiveInt = Field(default=2, validation_alias="TIGHTFIT_CONCURRENT_JOBS")
    """Jobs that one dispatcher searches at the same time."""
    lease_seconds: PositiveFloat = Field(default=10.0, validation_alias="TIGHTFIT_LEASE_SECONDS")
    max_attempts: PositiveInt = Field(default=8, validation_alias="TIGHTFIT_MAX_ATTEMPTS")
    """Times in a row that a job may be started without ending a trial before it is given up."""

    evaluation_seconds: PositiveFloat = Field(default=120.0, validation_alias="TIGHTFIT_EVALUATION_SECONDS")
    """How long one evaluation may take, beside fifty times what the float network's takes."""
    evaluator_memory_bytes: int = Field(default=0, ge=0, validation_alias="TIGHTFIT_EVALUATOR_MEMORY_BYTES")
    """Memory that one evaluator may take beyond what it has after its start; 0 is what there is."""

    @field_validator("evaluator_memory_bytes")
    @classmethod
    def _leaves_room(cls, value: int) -> int:
        if 0 < value < LEAST_EVALUATOR_BYTES:
            raise ValueError(
                "must be 0, for no bound, or at least 1 GiB: what is kept from trial to trial takes a third"
            )
        return value

    @model_validator(mode="after")
    def _fill_from_home(self) -> Self:
        home = self.home.expanduser().absolute()
        values = {
            "home": home,
            "database_url": self.database_url or f"sqlite:///{home / 'tightfit.db'}",
            "artifacts_url": self.artifacts_url or (home / "artifacts").as_uri(),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)  # frozen for everybody else
        return self

    def to_environment(self) -> dict[str, str]:
        """Return the variables from which a child process builds the same settings."""
        return {
            str(field.validation_alias): str(getattr(self, name)) for name, field in type(self).model_fields.items()
        }

    @property
    def temporary(self) -> Path:
        """Folder for uploads and replies in flight; what was left behind is removed when the service starts."""
        return self.home / "tmp"
