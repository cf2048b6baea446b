"""Which artefacts are in use, by what, and whose room they take.

A file may go when nothing names it. That nobody names it again between the question and its end is held by one lock,
which those who name files take, too.
"""

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, bindparam, delete, func, select

from service.artifacts import Artifact
from service.store.database import lock
from service.store.rows import insert_unless_there
from service.store.tables import artifact_uses

_BYTES = select(func.coalesce(func.sum(artifact_uses.c.bytes), 0)).where(artifact_uses.c.owner == bindparam("owner"))
_LOCK = 7_305_808_869_231_652  # beside that of migrations


class ArtifactUses:
    """The uses of all artefacts."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self) -> None:
        """Keep others from naming or ending artefacts until the transaction ends; on SQLite every write does."""
        lock(self._connection, _LOCK)

    def add(self, owner: str, holder: str, artifacts: Iterable[Artifact]) -> None:
        """Say that a model, a data set or a job of an owner needs these."""
        for artifact in artifacts:
            values = {"digest": artifact.digest, "holder": holder, "owner": owner, "bytes": artifact.bytes}
            insert_unless_there(self._connection, artifact_uses, values)

    def release(self, holder: str) -> list[str]:
        """Say that something is gone; return what it needed."""
        statement = delete(artifact_uses).where(artifact_uses.c.holder == holder).returning(artifact_uses.c.digest)
        return list(self._connection.execute(statement).scalars())

    def unused(self, digests: Collection[str]) -> list[str]:
        """Return those of these that nothing needs."""
        query = select(artifact_uses.c.digest).where(artifact_uses.c.digest.in_(digests)).distinct()
        used = set(self._connection.execute(query).scalars())
        return [digest for digest in digests if digest not in used]

    def bytes_of(self, owner: str) -> int:
        """Return what an owner's artefacts take; what two of their things share counts twice."""
        return int(self._connection.execute(_BYTES, {"owner": owner}).scalar_one())
