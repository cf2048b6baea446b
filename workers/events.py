"""What a driver reports and the dispatcher commits. Plain data; imports neither torch nor ray.

A driver numbers its events from 1. ``Driver.advance(acknowledged)`` returns those after ``acknowledged``, again and
again until they are acknowledged, and a slot gets its next candidate only after its last trial's event is.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

EVALUATION_SCHEMA_VERSION = 1


class TrialStatus(StrEnum):
    """How a trial stands or ended."""

    RUNNING = "running"
    DONE = "done"
    INFEASIBLE = "infeasible"  # proposed, breaks a limit on every device by arithmetic: its accuracy was never paid for
    STOPPED = "stopped"  # measured on some of the images only: more could not have brought it onto a front
    FAILED = "failed"


class Origin(StrEnum):
    """Where a candidate came from."""

    BASELINE = "baseline"
    SEARCH = "search"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCosts:
    """What a candidate costs on one device, and by what share it breaks each limit there (0.1: a tenth above).

    ``deployable`` is false, with the ``reason``, where the device's runtime cannot run the plan as it is.
    """

    latency_ms: float
    energy_mj: float
    model_bytes: int
    peak_memory_bytes: int
    violations: Mapping[str, float] = field(default_factory=dict)
    deployable: bool = True
    reason: str | None = None

    @property
    def feasible(self) -> bool:
        """Whether every limit holds on a device that can run the plan."""
        return self.deployable and not self.violations


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured of a candidate.

    ``accuracy`` and ``divergence`` are those on ``images`` images of the search split: all of them, but for a trial
    that was stopped. ``divergence`` is from the float network's outputs, in nats; ``drop_bound`` is the drop below the
    float network's accuracy that the images rule out more of (``workers.drop``). ``right`` has one bit per image, in
    the evaluators' order, base64; only trials that joined a front keep it.
    ``relaxed_images`` is what relaxed losses took that the strategy asked for before it proposed this candidate, in
    images that the whole float network runs forward.
    ``seconds`` are by part: ``relax`` (these losses), ``sampler``, ``repair``, ``price``, ``dispatch``, ``apply`` and,
    of that, ``calibrate`` (the float pass over the calibration images), ``forward``, ``tell``.
    """

    costs: Mapping[str, DeviceCosts]
    packed_bytes: int
    macs: int
    bit_ops: int
    accuracy: float | None = None
    correct: int | None = None
    images: int | None = None
    divergence: float | None = None
    drop_bound: float | None = None
    right: str | None = None
    relaxed_images: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    schema_version: int = EVALUATION_SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``from_json`` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Evaluation":
        """Rebuild an evaluation from ``to_json``'s data."""
        if data["schema_version"] != EVALUATION_SCHEMA_VERSION:
            raise ValueError(
                f"evaluation schema_version must be {EVALUATION_SCHEMA_VERSION}, got {data['schema_version']}"
            )
        return cls(**{**data, "costs": {name: DeviceCosts(**row) for name, row in data["costs"].items()}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate, its number, what was measured of it and how it ended.

    ``candidate`` and ``plan`` are the JSON of ``search.space.Candidate`` and ``compress.plan.Plan``. A candidate that a
    strategy proposed has ``sampler`` beside its indices: what must be told again when a search is resumed. A baseline
    that is not in the job's space has no indices.
    """

    number: int
    origin: Origin
    label: str  # "uniform 8 bit" for a baseline, "" otherwise
    candidate: Mapping[str, Any]
    plan: Mapping[str, Any]
    status: TrialStatus
    evaluation: Evaluation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged:
    """The job entered another phase: preparing, searching, packaging."""

    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The float network's own figures and the shape of the search, known before the first trial.

    ``baseline`` is the float network as an ``Evaluation``; ``split`` counts images per split; ``variables`` is the
    space, name to choices; ``ranges`` is the smallest, middle and largest reachable value of each limit per device.
    ``resolvable_drop`` is the least drop of accuracy that the search split can tell from chance. ``signal`` is what
    candidates are ranked by, ``accuracy`` or ``divergence``; ``warning`` says why the latter.
    """

    baseline: Evaluation
    split: Mapping[str, int]
    variables: Mapping[str, tuple[Any, ...]]
    ranges: Mapping[str, Mapping[str, Mapping[str, float]]]
    resolvable_drop: float | None = None
    signal: str = "accuracy"
    warning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceEffect:
    """What one choice does to the network when all others are at their dearest.

    Attributes:
        variable: Of the space; empty for no change at all.
        choice: Its value.
        plan_digest: Of the plan that was measured: what the figures may be looked up by.
        divergence: From the float network's outputs on the calibration images, in nats.
        loss: Cross-entropy of the labels of these images, in nats.
    """

    variable: str
    choice: bool | int | float | str | None
    plan_digest: str
    divergence: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityMeasured:
    """What is known of some single choices, from this run or earlier ones; stored, so that no later one measures it."""

    rows: tuple[ChoiceEffect, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundworkDone:
    """A piece of what all evaluators share is worked out; stored, so that no later run of the job does it again.

    ``content`` are the bytes of a safetensors file, ``key`` names everything that they depend on
    (``workers.groundwork``).
    """

    key: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted:
    """A candidate is in flight; its row says ``running``."""

    trial: Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnded:
    """A trial has its final status."""

    trial: Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the job is, in trials, or before the search in trained replacements (``unit``).

    ``seconds_left`` is an estimate, ``None`` before there is anything to go by.
    """

    done: int
    total: int | None
    seconds_left: float | None
    unit: str = "trials"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointReady:
    """A front trial was packed, reloaded from its file and measured again.

    ``files`` are the artefacts by name (``packed.zip``, ``model.onnx``); ``verification`` says what was compared with
    what; ``verified`` is false if anything disagreed, and then ``verification["failures"]`` says what.
    """

    number: int
    files: Mapping[str, bytes]
    verification: Mapping[str, Any]
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnded:
    """The last event: ``status`` is ``done``, or ``failed`` with the ``reason``."""

    status: str
    reason: str | None = None


Event = (
    StatusChanged
    | Prepared
    | SensitivityMeasured
    | GroundworkDone
    | TrialStarted
    | TrialEnded
    | Progress
    | CheckpointReady
    | JobEnded
)
