"""How much one owner may have of a service that others use, too."""

from sqlalchemy import Connection

from service.errors import ConflictError, TooManyError
from service.settings import Settings
from service.store.artifact_uses import ArtifactUses
from service.store.jobs import Jobs
from service.store.uploads import Devices

WAIT_FOR_A_PLACE_S = 60


def check_jobs(connection: Connection, settings: Settings, owner: str, *, besides: int = 0) -> None:
    """Raise if an owner has as many jobs, ``besides`` new ones, as anybody may.

    Raises:
        TooManyError: As many have not ended; some will.
        ConflictError: As many are stored.
    """
    unfinished, stored = Jobs(connection, owner).counts()
    if unfinished - besides >= settings.owner_jobs:
        raise TooManyError(
            f"an owner may have {settings.owner_jobs} jobs that have not ended; wait for one, or cancel one",
            code="job_quota",
            retry_after_s=WAIT_FOR_A_PLACE_S,
        )
    if stored - besides >= settings.owner_kept_jobs:
        raise ConflictError(
            f"an owner may keep {settings.owner_kept_jobs} jobs, ended ones too; delete some", code="kept_jobs_quota"
        )


def check_devices(connection: Connection, settings: Settings, owner: str) -> None:
    """Raise ``ConflictError`` if an owner has more devices than anybody may add; one was just added."""
    if Devices(connection, owner).count() > settings.owner_devices:
        raise ConflictError(f"an owner may add {settings.owner_devices} devices", code="device_quota")


def check_storage(connection: Connection, settings: Settings, owner: str, *, more: int = 0) -> None:
    """Raise ``ConflictError`` if what an owner has stored, with ``more`` bytes, exceeds what anybody may store."""
    taken = ArtifactUses(connection).bytes_of(owner)
    if taken + more > settings.owner_bytes:
        raise ConflictError(
            f"an owner may store {settings.owner_bytes} bytes; {taken} are taken and this needs {more} more. "
            "Delete jobs, then models and data sets that no job uses",
            code="storage_quota",
        )
