"""What a job asks for, as plain data: the API fills it, the driver runs it. Imports neither torch nor ray."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

SCHEMA_VERSION = 1

COST_OBJECTIVES = ("latency_ms", "energy_mj", "model_bytes", "peak_memory_bytes")
IMITATION_STEPS = 100
USUAL_DROP = 0.01
"""Drop of accuracy that counts as small where the job names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds; ``None`` is no bound. ``accuracy_drop`` is a fraction below the float network's accuracy."""

    latency_ms: float | None = None
    energy_mj: float | None = None
    model_bytes: int | None = None
    peak_memory_bytes: int | None = None
    accuracy_drop: float | None = None

    def over(self, general: "Limits") -> "Limits":
        """Return these limits with the gaps filled from ``general``."""
        return Limits(
            **{
                item.name: getattr(general, item.name) if getattr(self, item.name) is None else getattr(self, item.name)
                for item in fields(Limits)
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTarget:
    """A device profile by name, with the limits that hold on it (the job's own already filled in)."""

    name: str
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSpec:
    """Which choices the search has."""

    weight_bits: tuple[int, ...] = (2, 3, 4, 6, 8)
    activation_bits: tuple[int, ...] = (4, 6, 8)
    quantizers: tuple[str, ...] = ("uniform",)
    pruners: tuple[str, ...] = ("l2",)
    keep_ratios: tuple[float, ...] = (0.5, 0.625, 0.75, 0.875, 1.0)
    operators: tuple[str, ...] = ("original", "skip", "low_rank", "segregated")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSpec:
    """What a layer named by the user keeps: fixed weight bits (``None``: free), and whether its channels may be cut."""

    weight_bits: int | None = None
    prune: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When the search stops: whichever comes first. Baselines count as trials.

    ``patience`` is after how many trials in a row that let no device's hypervolume grow; see ``search.budget``.
    """

    trials: int | None = 200
    minutes: float | None = None
    patience: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSpec:
    """Shares of the data; what is left of 1 after calibration and search is the test split."""

    calibration: float = 0.2
    search: float = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneSpec:
    """How finalists are fine-tuned once they are packed: so many runs by Ray Tune, each of at most so many epochs.

    ``augment`` moves and mirrors training images at random: right for photographs, wrong for digits.
    """

    epochs: int = 3
    trials: int = 4
    method: str = "lsq"
    augment: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One job. ``objectives[0]`` is always the accuracy; the first cost objective decides what is best.

    ``imitation_steps`` is how long each replacement of a block is trained to do what the block does; 0 is not at all.
    ``finetune`` asks for fine-tuned finalists. ``numerics`` are the fields of a plan's numerics that the user chose;
    the devices' profiles have a say in the others. ``data_free`` jobs have no data set: images are made from the
    network, and the score is the agreement with it (``workers.data_free``).
    """

    name: str
    devices: tuple[DeviceTarget, ...]
    objectives: tuple[str, ...] = ("accuracy", "latency_ms", "model_bytes")
    space: SpaceSpec = field(default_factory=SpaceSpec)
    keep: Mapping[str, KeepSpec] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    split: SplitSpec = field(default_factory=SplitSpec)
    strategy: str = "auto"
    seed: int = 0
    early_stopping: bool = True
    imitation_steps: int = IMITATION_STEPS
    finetune: FineTuneSpec | None = None
    numerics: Mapping[str, str | int] = field(default_factory=dict)
    data_free: bool = False
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``from_json`` is the inverse."""
        return asdict(self)

    @property
    def score(self) -> str:
        """What the share of right answers is called: without labels there is no accuracy."""
        return "agreement" if self.data_free else "accuracy"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "JobSpec":
        """Rebuild a job from ``to_json``'s data."""
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"job schema_version must be {SCHEMA_VERSION}, got {data['schema_version']}")
        return cls(
            name=data["name"],
            devices=tuple(DeviceTarget(name=row["name"], limits=Limits(**row["limits"])) for row in data["devices"]),
            objectives=tuple(data["objectives"]),
            space=SpaceSpec(**{key: tuple(value) for key, value in data["space"].items()}),
            keep={name: KeepSpec(**row) for name, row in data["keep"].items()},
            budget=Budget(**data["budget"]),
            split=SplitSpec(**data["split"]),
            strategy=data["strategy"],
            early_stopping=data.get("early_stopping", True),  # jobs of before it was a choice
            seed=data["seed"],
            imitation_steps=data.get("imitation_steps", 0),  # jobs of before had none
            finetune=FineTuneSpec(**data["finetune"]) if data.get("finetune") else None,
            numerics=data.get("numerics", {}),  # jobs of before had none
            data_free=data.get("data_free", False),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What turns stored pixels into the network's input: ``(pixel * scale - mean) / std`` per channel.

    Applies to integer arrays. Float arrays are taken to be in the network's own layout and pass unchanged. ``layout``
    is that of the stored arrays, ``NHWC`` or ``NCHW``.
    """

    layout: str = "NHWC"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``from_json`` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Preprocessing":
        """Rebuild from ``to_json``'s data."""
        return cls(layout=data["layout"], scale=data["scale"], mean=tuple(data["mean"]), std=tuple(data["std"]))
