"""Models, data sets and custom device profiles: written once, never changed."""

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, exists, func, select

from service.errors import ConflictError
from service.store.artifact_uses import ArtifactUses
from service.store.database import owner_of
from service.store.records import DatasetRecord, DeviceRecord, ModelRecord
from service.store.rows import insert_unless_there, record, records, values_of
from service.store.tables import datasets, devices, jobs, models

_MODEL, _DATASET = (  # built once: to put a statement together takes longer than to run it
    select(table).where(table.c.owner == bindparam("owner"), table.c.id == bindparam("identifier"))
    for table in (models, datasets)
)
_DEVICE = select(devices).where(devices.c.owner == bindparam("owner"), devices.c.name == bindparam("name"))
NO_DATA = "no data"
"""In the place of the digest of the data set of jobs without data."""


class Models:
    """Ingested networks of one owner."""

    def __init__(self, connection: Connection, owner: str | None = None) -> None:
        self._connection = connection
        self._owner = owner_of(connection) if owner is None else owner

    def add(self, model: ModelRecord) -> tuple[ModelRecord, bool]:
        """Store a model, or find the one with the same digest; say whether it is new."""
        new = insert_unless_there(self._connection, models, values_of(model))
        return (model if new else self._one(model.digest)), new

    def get(self, identifier: str) -> ModelRecord | None:
        """Return the model with this identifier."""
        row = self._connection.execute(_MODEL, {"owner": self._owner, "identifier": identifier}).one_or_none()
        return None if row is None else record(ModelRecord, row)

    def page(self, *, before: str | None = None, limit: int = 50) -> list[ModelRecord]:
        """Return the newest models, older than ``before`` if that is given."""
        query = select(models).where(models.c.owner == self._owner).order_by(models.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(models.c.id < before)
        return records(ModelRecord, self._connection.execute(query))

    def remove(self, identifier: str) -> list[str]:
        """Forget a model that no job uses; return the artefacts that it named."""
        if self._connection.execute(select(jobs.c.id).where(jobs.c.model_id == identifier).limit(1)).first():
            raise ConflictError("a job uses it; delete its jobs first", code="in_use")
        self._connection.execute(delete(models).where(models.c.owner == self._owner, models.c.id == identifier))
        return ArtifactUses(self._connection).release(identifier)

    def _one(self, digest: str) -> ModelRecord:
        query = select(models).where(models.c.owner == self._owner, models.c.digest == digest)
        return record(ModelRecord, self._connection.execute(query).one())


class Datasets:
    """Ingested data sets of one owner."""

    def __init__(self, connection: Connection, owner: str | None = None) -> None:
        self._connection = connection
        self._owner = owner_of(connection) if owner is None else owner

    def add(self, dataset: DatasetRecord) -> tuple[DatasetRecord, bool]:
        """Store a data set, or find the one with the same digest; say whether it is new."""
        new = insert_unless_there(self._connection, datasets, values_of(dataset))
        return (dataset if new else self._one(dataset.digest)), new

    def get(self, identifier: str) -> DatasetRecord | None:
        """Return the data set with this identifier."""
        row = self._connection.execute(_DATASET, {"owner": self._owner, "identifier": identifier}).one_or_none()
        return None if row is None else record(DatasetRecord, row)

    def page(self, *, before: str | None = None, limit: int = 50) -> list[DatasetRecord]:
        """Return the newest data sets, older than ``before`` if that is given."""
        mine = (datasets.c.owner == self._owner, datasets.c.digest != NO_DATA)
        query = select(datasets).where(*mine).order_by(datasets.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(datasets.c.id < before)
        return records(DatasetRecord, self._connection.execute(query))

    def remove(self, identifier: str) -> list[str]:
        """Forget a data set that no job uses; return the artefacts that it named."""
        if self._connection.execute(select(jobs.c.id).where(jobs.c.dataset_id == identifier).limit(1)).first():
            raise ConflictError("a job uses it; delete its jobs first", code="in_use")
        self._connection.execute(delete(datasets).where(datasets.c.owner == self._owner, datasets.c.id == identifier))
        return ArtifactUses(self._connection).release(identifier)

    def _one(self, digest: str) -> DatasetRecord:
        query = select(datasets).where(datasets.c.owner == self._owner, datasets.c.digest == digest)
        return record(DatasetRecord, self._connection.execute(query).one())


class Devices:
    """Custom device profiles of one owner; those that ship with the product are not in the database."""

    def __init__(self, connection: Connection, owner: str | None = None) -> None:
        self._connection = connection
        self._owner = owner_of(connection) if owner is None else owner

    def add(self, device: DeviceRecord) -> tuple[DeviceRecord, bool]:
        """Store a profile, or find the same one; another profile under its name is a conflict."""
        if insert_unless_there(self._connection, devices, values_of(device)):
            return device, True
        stored = self.get(device.name)
        if stored is None or stored.profile != device.profile:
            raise ConflictError(
                f"a device called {device.name!r} exists already and differs; profiles never change, "
                "so choose another name",
                code="device_exists",
            )
        return stored, False

    def get(self, name: str) -> DeviceRecord | None:
        """Return the profile with this name."""
        row = self._connection.execute(_DEVICE, {"owner": self._owner, "name": name}).one_or_none()
        return None if row is None else record(DeviceRecord, row)

    def count(self) -> int:
        """Return how many profiles there are."""
        query = select(func.count()).where(devices.c.owner == self._owner)
        return int(self._connection.execute(query).scalar_one())

    def all(self) -> list[DeviceRecord]:
        """Return every profile, by name."""
        query = select(devices).where(devices.c.owner == self._owner).order_by(devices.c.name)
        return records(DeviceRecord, self._connection.execute(query))


def idle_before(connection: Connection, before: datetime, *, limit: int) -> list[tuple[str, str, str]]:
    """Return kind, owner and identifier of the uploads from before a moment that no job uses, of all owners."""
    found = []
    for kind, table, column in (("model", models, jobs.c.model_id), ("dataset", datasets, jobs.c.dataset_id)):
        used = exists().where(column == table.c.id)
        query = select(table.c.owner, table.c.id).where(table.c.created_at < before, ~used).limit(limit)
        found += [(kind, row.owner, row.id) for row in connection.execute(query)]
    return found
