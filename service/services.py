"""What the service is made of: built once at start, handed to routes and pages."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from anyio import CapacityLimiter

from hwmodels.profile import Profile, builtin_profiles, load_profile
from service.artifacts import ArtifactStore
from service.errors import NotFoundError
from service.fit_cache import FitCache
from service.settings import Settings
from service.store.database import Database
from service.store.tables import LOCAL_OWNER
from service.store.uploads import Devices
from workers.ingest.client import IngestClient
from workers.ingest.protocol import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Database, artefacts and ingestion of one process."""

    settings: Settings
    database: Database
    artifacts: ArtifactStore
    ingest: IngestClient
    upload_threads: CapacityLimiter
    """Uploads that may be in work at once; they wait here and not in the threads that answer everybody else."""
    readiness_threads: CapacityLimiter
    """Those that look whether all is well; they wait for nobody who wants something else."""
    submission_threads: CapacityLimiter
    """Submissions of which all is known go through a few threads: each is a dozen statements, and more at once only
    wait for each other."""
    fits: FitCache = field(default_factory=FitCache)
    """What fit checks have found."""
    owner: str = LOCAL_OWNER
    """Whose things are seen and made."""

    @classmethod
    def open(cls, settings: Settings) -> "Services":
        """Connect to everything that the settings name; ingestion starts when it is first asked, or told to."""
        settings.temporary.mkdir(parents=True, exist_ok=True)
        limits = Limits(
            seconds=settings.ingest_seconds,
            memory_bytes=settings.ingest_memory_bytes,
            file_bytes=settings.max_unpacked_bytes + 2**20,
        )
        return cls(
            settings=settings,
            database=Database(settings.database_url),
            artifacts=ArtifactStore(settings.artifacts_url),
            ingest=IngestClient(scratch=settings.temporary, limits=limits, concurrency=settings.ingest_concurrency),
            upload_threads=CapacityLimiter(2 * settings.ingest_concurrency),
            readiness_threads=CapacityLimiter(2),
            submission_threads=CapacityLimiter(4),
        )

    def for_owner(self, owner: str) -> "Services":
        """Return the same for one owner, whose rows alone its transactions see."""
        return replace(self, owner=owner, database=self.database.for_owner(owner))

    def close(self) -> None:
        """Close all connections and end ingestion."""
        self.ingest.close()
        self.database.close()

    def profiles(self) -> dict[str, Profile]:
        """Return every device profile that is known, those that ship with the product first."""
        with self.database.read() as connection:
            custom = Devices(connection).all()
        return {**builtin_profiles(), **{row.name: load_profile(row.profile) for row in custom}}

    def chosen_profiles(self, names: Mapping[str, str]) -> dict[str, Profile]:
        """Return profiles by name; ``names`` says for each in which field it was asked for."""
        if not names:
            return {}
        with self.database.read() as connection:
            custom = {name: Devices(connection).get(name) for name in names}
        found: dict[str, Profile] = {}
        for name, place in names.items():
            row = custom[name]
            profile = builtin_profiles().get(name) if row is None else load_profile(row.profile)
            if profile is None:
                raise NotFoundError("device", name, field=place, known=tuple(self.profiles()))
            found[name] = profile
        return found
