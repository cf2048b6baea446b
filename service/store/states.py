"""The life of a job as an explicit state machine."""

from enum import StrEnum

from service.errors import ConflictError


class JobStatus(StrEnum):
    """How a job stands."""

    QUEUED = "queued"
    PREPARING = "preparing"
    SEARCHING = "searching"
    REFINING = "refining"
    PACKAGING = "packaging"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Request(StrEnum):
    """What a user wants of a job that a dispatcher holds; the dispatcher honours and clears it."""

    CANCEL = "cancel"
    PAUSE = "pause"


ACTIVE = (JobStatus.PREPARING, JobStatus.SEARCHING, JobStatus.REFINING, JobStatus.PACKAGING)
ENDED = (JobStatus.DONE, JobStatus.CANCELLED, JobStatus.FAILED)
CLAIMABLE = (JobStatus.QUEUED, *ACTIVE)  # an active job whose lease ran out is an orphan

# Every active status may fall back to preparing: that is what adoption after a crash does.
_ANY_TIME = {JobStatus.PREPARING, JobStatus.PAUSED, JobStatus.CANCELLED, JobStatus.FAILED}
TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset(_ANY_TIME),
    JobStatus.PREPARING: frozenset(_ANY_TIME | {JobStatus.SEARCHING}),
    JobStatus.SEARCHING: frozenset(_ANY_TIME | {JobStatus.REFINING, JobStatus.PACKAGING, JobStatus.DONE}),
    JobStatus.REFINING: frozenset(_ANY_TIME | {JobStatus.PACKAGING, JobStatus.DONE}),
    JobStatus.PACKAGING: frozenset(_ANY_TIME | {JobStatus.DONE}),
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.CANCELLED}),
    JobStatus.DONE: frozenset(),
    JobStatus.CANCELLED: frozenset(),
    JobStatus.FAILED: frozenset(),
}


def check_transition(before: JobStatus, after: JobStatus) -> None:
    """Raise ``ConflictError`` unless a job may go from ``before`` to ``after``."""
    if after not in TRANSITIONS[before]:
        allowed = ", ".join(sorted(TRANSITIONS[before])) or "nothing: it has ended"
        raise ConflictError(
            f"a job that is {before} cannot become {after}; it can become {allowed}", code="illegal_transition"
        )
