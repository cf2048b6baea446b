"""How much one owner may have of a service that others use, too."""

from sqlalchemy import Connection

from service.errors import ConflictError, TooManyError
from service.settings import Settings
from service.store.artifact_uses import ArtifactUses
from service.store.jobs import Jobs

WAIT_FOR_A_PLACE_S = 60


def check_jobs(connection: Connection, settings: Settings, owner: str, *, besides: int = 0) -> None:
    """Raise ``TooManyError`` if an owner has as many jobs that have not ended as anybody may, ``besides`` new ones."""
    if Jobs(connection, owner).unfinished_count() - besides >= settings.owner_jobs:
        raise TooManyError(
            f"an owner may have {settings.owner_jobs} jobs that have not ended; wait for one, or cancel one",
            code="job_quota",
            retry_after_s=WAIT_FOR_A_PLACE_S,
        )


def check_storage(connection: Connection, settings: Settings, owner: str, *, more: int = 0) -> None:
    """Raise ``ConflictError`` if what an owner has stored, with ``more`` bytes, exceeds what anybody may store."""
    taken = ArtifactUses(connection).bytes_of(owner)
    if taken + more > settings.owner_bytes:
        raise ConflictError(
            f"an owner may store {settings.owner_bytes} bytes; {taken} are taken and this needs {more} more. "
            "Delete jobs, then models and data sets that no job uses",
            code="storage_quota",
        )
